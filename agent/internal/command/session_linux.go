package command

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// session finds the processes of a run where there are no control groups: those of the leader's session
// or process group, and whoever descends from one that was ever seen. A daemon that forked twice and
// left the session before anybody looked is missed; it is this process's child then (Subreaper), and
// ends with it.
type session struct {
	foreign bool // begun by another process, so that its orphans are not our children

	mu     sync.Mutex
	leader int
	known  map[int]uint64 // pid to start time, so that a number used again is not taken for it
}

// Subreaper makes this process the parent of every orphan below it.
func Subreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

func (s *session) begin(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader, s.known = pid, map[int]uint64{}
}

// empty reports whether nobody is left. While one that is known lives, only that one is looked at.
func (s *session) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, start := range s.known {
		if p, ok := readStat(pid); ok && p.start == start && p.state != 'Z' {
			return false
		}
	}
	if !s.foreign && len(s.known) == 0 && s.leader != 0 && noOrphans() {
		if p, ok := readStat(s.leader); !ok || p.state == 'Z' {
			return true
		}
	}
	return len(s.membersLocked()) == 0
}

// noOrphans reports whether every child of this process began a session, as every command of ours does.
// Whoever a command that has ended left behind is our child by now, Subreaper saw to that: so a run that
// left nobody is known to be empty without a look at every process of the host.
//
// The kernel's lists change while they are read. An orphan's own children come to the main thread's list
// before it goes from the list it is in, so the main thread's is read last; and since a list from which
// somebody goes may skip somebody else (proc(5)), all are read twice.
func noOrphans() bool {
	for range 2 {
		if !onlyLeaders() {
			return false
		}
	}
	return true
}

func onlyLeaders() bool {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		return false
	}
	main := fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())
	lists = append(slices.DeleteFunc(lists, func(l string) bool { return l == main }), main)
	for _, list := range lists {
		for _, pid := range readPIDs(list) {
			if p, ok := readStat(pid); !ok || p.session != pid { // gone just now: it may have left somebody
				return false
			}
		}
	}
	return true
}

func (s *session) members() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.membersLocked()
}

// membersLocked looks at every process there is, about a millisecond on a small host.
func (s *session) membersLocked() (pids []int) {
	if s.leader == 0 {
		return nil
	}
	all := processTable()
	for pid, start := range s.known {
		if all[pid].start != start {
			delete(s.known, pid)
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			_, have := s.known[pid]
			if !have && s.belongs(p) {
				s.known[pid], grown = p.start, true
			}
		}
	}
	for pid := range s.known {
		if all[pid].state != 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *session) belongs(p procStat) bool {
	_, child := s.known[p.ppid]
	return child || p.session == s.leader || p.pgrp == s.leader
}

// procStat is what of /proc/PID/stat (proc(5)) tells who belongs to whom.
type procStat struct {
	state               byte
	ppid, pgrp, session int
	start               uint64 // clock ticks since boot
}

func processTable() map[int]procStat {
	all := make(map[int]procStat)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readStat(pid); ok {
			all[pid] = p
		}
	}
	return all
}

func readStat(pid int) (p procStat, ok bool) {
	text, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	return parseStat(text)
}

// parseStat reads the fields after the command's name, which may hold anything, ")" too.
func parseStat(text string) (p procStat, ok bool) {
	_, rest, ok := cutLast(text, ")")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return p, false
	}
	p.state = f[0][0]
	p.ppid, _ = strconv.Atoi(f[1])
	p.pgrp, _ = strconv.Atoi(f[2])
	p.session, _ = strconv.Atoi(f[3])
	p.start, _ = strconv.ParseUint(f[19], 10, 64)
	return p, true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// StartTime tells a process from a later one with the same number: clock ticks since boot, 0 if it is gone.
func StartTime(pid int) uint64 {
	p, _ := readStat(pid)
	return p.start
}

// EndSession ends what is left of the run that leader began at the given start time, if that is who has
// the number now, or nobody.
func EndSession(leader int, start uint64) error {
	if now := StartTime(leader); now != 0 && now != start {
		return nil
	}
	g := &Group{place: &Place{}, seen: &session{foreign: true}}
	g.Leader(leader)
	return g.End(Step{Signal: unix.SIGTERM, Wait: killWait})
}
