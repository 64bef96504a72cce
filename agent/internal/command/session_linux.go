package command

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"beanstalk-agent/collectors/procstat"

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

const maxrssUnit = 1024 // getrusage(2): ru_maxrss is in kilobytes

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
		if p, ok := readStat(pid); ok && p.Started == start && !p.Dead() {
			return false
		}
	}
	if !s.foreign && len(s.known) == 0 && s.leader != 0 && noOrphans() {
		if p, ok := readStat(s.leader); !ok || p.Dead() {
			return true
		}
	}
	// A process that forks and ends while the host's are listed hides its child from that list, not from the next.
	for range 2 {
		if len(s.membersLocked()) > 0 {
			return false
		}
	}
	return true
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
			if p, ok := readStat(pid); !ok || p.Session != pid { // gone just now: it may have left children
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
		if all[pid].Started != start {
			delete(s.known, pid)
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, p := range all {
			_, have := s.known[pid]
			if !have && s.belongs(p) {
				s.known[pid], grown = p.Started, true
			}
		}
	}
	for pid := range s.known {
		if p := all[pid]; !p.Dead() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *session) belongs(p procstat.Stat) bool {
	_, child := s.known[p.Parent]
	return child || p.Session == s.leader || p.Group == s.leader
}

func processTable() map[int]procstat.Stat {
	all := make(map[int]procstat.Stat)
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

func readStat(pid int) (p procstat.Stat, ok bool) {
	text, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	p, err = procstat.Parse([]byte(text))
	return p, err == nil
}

// StartTime is when a process started, in clock ticks since boot, for a PID may be reused; 0 if it is gone.
func StartTime(pid int) uint64 {
	p, _ := readStat(pid)
	return p.Started
}
