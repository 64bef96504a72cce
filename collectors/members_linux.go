package collectors

import (
	"errors"
	"io/fs"
	"strconv"
	"time"

	"beanstalk-agent/collectors/procstat"

	"golang.org/x/sys/unix"
)

// Who forks chooses how many processes a group has.
const (
	maxMembers = 1000 // are looked at in a tick: some 10 ms
	maxKept    = 128  // of them have files that stay open: each is 7 kB of the agent's memory, in the kernel
	maxThreads = 2000 // are looked at in a tick for what they have forked
)

// member is one process of a group. Its stat file stays open, while few do: reading it is three times cheaper so.
type member struct {
	procstat.Stat
	pid      int
	rss      uint64 // bytes
	stat     kernelFile
	children kernelFile
	reading  pssReading
	tick     uint64 // the last tick that saw it
	kept     bool   // its files stay open
}

// members are the processes of a group by number.
type members struct {
	proc  fs.FS
	byPID map[int]*member
	tick  uint64
	cpu   time.Duration // used by all of them since the group was found
	exits int           // in this tick
	kept  int           // have open files
	cut   bool          // not all were looked at in the last tick
	page  uint64
	buf   []byte
}

func newMembers(proc fs.FS) members {
	return members{proc: proc, byPID: map[int]*member{}, page: uint64(unix.Getpagesize()), buf: make([]byte, 4096)}
}

// see reads a process's stat and reports whether it is there. A process that comes to a known group is charged with all
// the CPU time it has used: it was started since the last tick.
func (ms *members) see(pid int) (m *member, alive bool, err error) {
	m = ms.byPID[pid]
	known := m != nil
	if !known {
		dir := strconv.Itoa(pid)
		m = &member{pid: pid,
			stat:     kernelFile{fsys: ms.proc, name: dir + "/stat"},
			children: kernelFile{fsys: ms.proc, name: dir + "/task/" + dir + "/children"}}
	}
	b, err := m.stat.read(&ms.buf)
	if err != nil {
		return nil, false, unlessGone(err)
	}
	st, err := procstat.Parse(b)
	if err != nil {
		return nil, false, err
	}
	if st.Dead() {
		m.close()
		return nil, false, nil
	}
	if known && st.Started != m.Started { // another has its number, and is a new one in the next tick
		m.close()
		return nil, false, nil
	}
	if known || ms.tick > 1 && !ms.cut {
		ms.cpu += st.CPU - m.CPU
	}
	if !known && ms.kept < maxKept {
		m.kept = true
		ms.kept++
	}
	if !m.kept {
		m.stat.close()
	}
	m.Stat, m.rss, m.tick = st, st.RSS*ms.page, ms.tick
	ms.byPID[pid] = m
	return m, true, nil
}

// sweep forgets the processes that this tick has not seen.
func (ms *members) sweep() {
	ms.exits = 0
	for pid, m := range ms.byPID {
		if m.tick != ms.tick {
			m.close()
			if m.kept {
				ms.kept--
			}
			delete(ms.byPID, pid)
			ms.exits++
		}
	}
}

func (ms *members) clear() {
	for _, m := range ms.byPID {
		m.close()
	}
	clear(ms.byPID)
	ms.tick, ms.cpu, ms.kept, ms.cut = 0, 0, 0, false
}

func (m *member) close() {
	m.stat.close()
	m.children.close()
}

// unlessGone is nil for the errors by which the kernel says that a process, or a cgroup, is no more.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
