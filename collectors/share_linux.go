package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/collectors/procread"
)

// readShares reads the PSS of the processes whose turn it is.
func (g *Group) readShares(ctx context.Context) error {
	if g.denied != nil && g.at.Before(g.retry) {
		return g.denied
	}
	g.denied, g.due = nil, g.due[:0]
	for _, m := range g.members.byPID {
		if m.reading.due(m.rss, g.at, g.cfg.PSSEvery) {
			g.due = append(g.due, m)
		}
	}
	g.budget.fill(g.at)
	if err := g.takeLate(); err != nil {
		return err
	}
	if len(g.due) == 0 {
		return nil
	}
	sortByUrgency(g.due, g.at)
	for _, m := range g.due {
		if !g.budget.open() || ctx.Err() != nil {
			break
		}
		if err := g.readShare(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// share is the reading of one process's smaps_rollup. What it found is the reader's until done is closed.
type share struct {
	m    *member
	at   time.Time
	rss  uint64 // of stat, then
	done chan struct{}

	text []byte
	err  error
	cost time.Duration
}

// read reads the file. It is not kept open: it would show the memory of before an exec for ever.
func (s *share) read(proc fs.FS) {
	runtime.LockOSThread() // for threadCPU
	defer runtime.UnlockOSThread()
	defer close(s.done)
	began := threadCPU()
	var buf []byte
	s.text, s.err = readOnce(proc, strconv.Itoa(s.m.pid)+"/smaps_rollup", &buf)
	s.cost = threadCPU() - began
}

// shareTime is how long a tick waits for a process's PSS: less than the Gatherer does, so that the other figures of
// the group are in time.
const shareTime = time.Second

// readShare reads one process's PSS. What comes after shareTime is a later tick's.
func (g *Group) readShare(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, shareTime)
	defer cancel()
	s := &share{m: m, at: g.at, rss: m.rss, done: make(chan struct{})}
	err := procread.Do(ctx, m.pid, procread.Owner(g.cfg.Proc, m.pid), func() { s.read(g.cfg.Proc) })
	if err == nil {
		return g.take(s)
	}
	if errors.Is(err, procread.ErrLate) {
		g.late = s
	}
	return fmt.Errorf("read memory of process %d: %w", m.pid, err)
}

// takeLate takes what an earlier tick has not waited for; nothing else is read until it is there.
func (g *Group) takeLate() error {
	s := g.late
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		g.late = nil
		return g.take(s)
	default:
		return fmt.Errorf("read memory of process %d: %w", s.m.pid, procread.ErrSilent)
	}
}

// take charges a reading to the budget and notes it.
func (g *Group) take(s *share) error {
	g.budget.spend(s.cost)
	err := s.note()
	if err != nil {
		g.denied, g.retry = err, g.at.Add(10*time.Minute)
	}
	return err
}

func (s *share) note() error {
	m := s.m
	if errors.Is(s.err, fs.ErrPermission) {
		return fmt.Errorf("read memory of process %d, which needs CAP_SYS_PTRACE: %w", m.pid, s.err)
	}
	if s.err != nil {
		return unlessGone(s.err)
	}
	if len(s.text) == 0 {
		return nil // a process on its way out has no memory left
	}
	found, err := parseSmapsRollup(s.text)
	if err != nil {
		return err
	}
	first := m.reading.first
	if m.reading.at.IsZero() {
		first = found.pss
	}
	m.reading = pssReading{smaps: found, at: s.at, resident: s.rss, first: first}
	return nil
}

// threadCPU is the CPU time the calling thread has used: what a reading costs, however busy the machine.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
