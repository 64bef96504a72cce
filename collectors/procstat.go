package collectors

import (
	"bytes"
	"errors"
	"time"
)

// procStat is what we use of /proc/PID/stat; see proc(5).
type procStat struct {
	parent  int
	threads int
	cpu     time.Duration // user and system
	started time.Duration // since boot
	rss     uint64        // pages
	dead    bool          // and not waited for by its parent: a zombie
}

// clockTick is the kernel's unit of CPU time in /proc: USER_HZ, which is 100 on
// every architecture Go runs on.
const clockTick = time.Second / 100

// Fields of /proc/PID/stat counted from the one after the command.
const (
	statParent  = 1
	statUser    = 11
	statSystem  = 12
	statThreads = 17
	statStarted = 19
	statRSS     = 21
)

// parseStat reads the text of /proc/PID/stat. The command stands in parentheses
// and is any bytes the process likes, newlines and parentheses too: what counts
// begins after the last one.
func parseStat(b []byte) (s procStat, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return s, errors.New("read stat: no command in parentheses")
	}
	rest, _ := cutLine(b[i+1:])
	state, rest := cutWord(rest)
	for field := statParent; field <= statRSS; field++ {
		var word []byte
		word, rest = cutWord(rest)
		if !s.set(field, word) {
			return procStat{}, lineError("stat", 1, word, "a number")
		}
	}
	s.dead = (string(state) == "Z" || string(state) == "X") && s.threads <= 1 // others may outlive the first thread
	return s, nil
}

// set takes one field and reports whether it is a number where one is needed.
func (s *procStat) set(field int, word []byte) bool {
	n, ok := number(word)
	switch field {
	case statParent:
		s.parent = int(n)
		ok = ok && n < 1<<31
	case statUser, statSystem:
		s.cpu += time.Duration(n) * clockTick
		ok = ok && n < 1<<38
	case statThreads:
		s.threads = int(n)
		ok = ok && n < 1<<31
	case statStarted:
		s.started = time.Duration(n) * clockTick
		ok = ok && n < 1<<38
	case statRSS:
		s.rss = n
		ok = ok && n < 1<<48
	default:
		return len(word) > 0
	}
	return ok
}
