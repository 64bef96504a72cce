// Package procstat parses /proc/PID/stat; see proc(5). It allocates nothing.
package procstat

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// Stat is what we use of /proc/PID/stat.
type Stat struct {
	State   byte
	Parent  int
	Group   int // of processes; -1 while the kernel takes the process away
	Session int // likewise
	Threads int
	CPU     time.Duration // user and system
	Started uint64        // clock ticks since boot
	RSS     uint64        // pages
}

// clockTick is the kernel's unit of time in /proc: USER_HZ, which is 100 on every architecture that Go supports.
const clockTick = time.Second / 100

// Fields counted from the one after the command.
const (
	state   = 1
	parent  = 2
	group   = 3
	session = 4
	user    = 12
	system  = 13
	threads = 18
	started = 20
	rss     = 22
)

// SinceBoot is when the process started.
func (s *Stat) SinceBoot() time.Duration { return time.Duration(s.Started) * clockTick }

// Dead reports whether the process has ended and only its parent has not waited
// for it yet. Other threads may outlive the first one, whose state this is.
func (s *Stat) Dead() bool { return (s.State == 'Z' || s.State == 'X') && s.Threads <= 1 }

// Parse reads the text of /proc/PID/stat. The command stands in parentheses and is any bytes the process likes,
// newlines and parentheses too: the fields begin after the last parenthesis.
func Parse(b []byte) (s Stat, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return s, errors.New("read stat: no command in parentheses")
	}
	_, rest, _ := bytes.Cut(b[i:], []byte{' '})
	for field := state; field <= rss; field++ {
		var word []byte
		word, rest, _ = bytes.Cut(rest, []byte{' '})
		if !s.set(field, word) {
			return Stat{}, fmt.Errorf("read stat: field %d after the command: got %.60q", field, word)
		}
	}
	return s, nil
}

// set takes one field and reports whether it is what the kernel writes there.
func (s *Stat) set(field int, word []byte) (ok bool) {
	switch field {
	case state:
		if len(word) == 1 {
			s.State, ok = word[0], true
		}
	case parent:
		s.Parent, ok = pid(word)
	case group:
		s.Group, ok = pidOrNone(word)
	case session:
		s.Session, ok = pidOrNone(word)
	case threads:
		s.Threads, ok = pid(word)
	case user, system:
		var n uint64
		n, ok = number(word, 38)
		s.CPU += time.Duration(n) * clockTick
	case started:
		s.Started, ok = number(word, 38)
	case rss:
		s.RSS, ok = number(word, 48)
	default:
		return len(word) > 0
	}
	return ok
}

func pid(word []byte) (int, bool) {
	n, ok := number(word, 31)
	return int(n), ok
}

func pidOrNone(word []byte) (int, bool) {
	if string(word) == "-1" {
		return -1, true
	}
	return pid(word)
}

// number reads a decimal number below 1<<bits, which is at most 48.
func number(word []byte, bits int) (n uint64, ok bool) {
	for _, c := range word {
		if n = n*10 + uint64(c-'0'); c < '0' || c > '9' || n >= 1<<bits {
			return 0, false
		}
	}
	return n, len(word) > 0
}
