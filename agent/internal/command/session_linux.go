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
// or process group, and the descendants of every process found so far. A daemon that forked twice and left
// the session between two searches is missed; it is then this process's child (Subreaper) and ends with it.
type session struct {
	foreign bool // started by another process: its orphans are not our children

	mu     sync.Mutex
	leader int
	known  map[int]uint64 // pid to start time, because a pid may be reused
}

// Subreaper makes this process the parent of every orphan below it.
func Subreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

func (s *session) begin(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leader, s.known = pid, map[int]uint64{}
}

// empty reports whether no process is left. It searches for more only when all known ones have ended.
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

// noOrphans reports whether every child of this process leads a session, as every command of ours does. The
// orphans of an ended command are our children (Subreaper): without any, its run is empty, and the processes of
// the host need not be searched.
//
// The kernel's lists change while they are read. An orphan's own children enter the main thread's list before
// the orphan leaves its list, so the main thread's is read last; and since a list may skip an entry when
// another is removed (proc(5)), all are read twice.
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
			if p, ok := readStat(pid); !ok || p.session != pid { // gone just now: it may have left children
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

// membersLocked searches all processes of the host: about a millisecond on a small one.
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

// procStat is the part of /proc/PID/stat (proc(5)) that shows parent and session.
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

// parseStat reads the fields after the command's name, which may contain ")".
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

// StartTime is when a process started, in clock ticks since boot, for a PID may be reused; 0 if it is gone.
func StartTime(pid int) uint64 {
	p, _ := readStat(pid)
	return p.start
}

// EndSession ends the rest of the run whose leader started at the given time, unless another process has that
// PID now.
func EndSession(leader int, start uint64) error {
	if now := StartTime(leader); now != 0 && now != start {
		return nil
	}
	g := &Group{place: &Place{}, seen: &session{foreign: true}}
	g.Leader(leader)
	return g.End(Step{Signal: unix.SIGTERM, Wait: killWait})
}
