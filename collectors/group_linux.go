package collectors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Group reads one group of processes. Its cost depends on the group's size, not on how many processes the host has: it
// looks for the group once, and again only when that is gone.
type Group struct {
	cfg    GroupConfig
	label  []Label
	finder finder

	mu      sync.Mutex // held while collecting
	source  *source    // where the group is; nil: not found
	members members
	more    int // processes that were not looked at: there are more than maxMembers
	threads int // that may be looked at in this tick
	cpu     cpuClock
	budget  pssBudget
	denied  error     // why PSS cannot be read
	retry   time.Time // when to try nevertheless
	late    *share    // a process's memory, read no longer than Collect waited; nil: none
	seen    bool      // the group was found at least once
	boot    bootClock
	at      time.Time
	last    groupFigures

	pids []int
	due  []*member
	buf  []byte
	out  []Sample

	published sync.Mutex // never held for long, unlike mu
	newest    GroupSnapshot
}

// NewGroup returns a Group; it opens nothing before its first Collect.
func NewGroup(cfg GroupConfig) *Group {
	cfg.complete()
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	if cfg.Sys == nil {
		cfg.Sys = os.DirFS("/sys/fs/cgroup")
	}
	g := &Group{
		cfg: cfg, label: groupLabel(cfg.Name), members: newMembers(cfg.Proc), buf: make([]byte, 8192),
		finder: finder{cfg: &cfg, hierarchy: hierarchy{sys: cfg.Sys}},
	}
	g.finder.socket = newListenSocket(cfg.Port, cfg.UnixPath, g.finder.counts, cfg.Proc)
	return g
}

// Name is "group", and the group's name.
func (g *Group) Name() string { return "group " + g.cfg.Name }

// Close gives back the open files.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lose()
	g.finder.socket.close()
	return nil
}

// Collect reads the group, looking for it first if need be. A group that was
// never found is ErrNoData beside a count of 0.
func (g *Group) Collect(ctx context.Context) ([]Sample, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.publish()
	g.at, g.out = time.Now(), g.out[:0]
	err := g.refresh(ctx)
	g.last = groupFigures{processes: len(g.members.byPID) + g.more, exits: g.members.exits}
	if err != nil || len(g.members.byPID) == 0 {
		g.out = g.last.samples(g.out, g.label)
		return g.out, g.missing(err)
	}
	g.seen = true
	pssErr := g.readShares(ctx)
	memErr := g.memory()
	cpuErr := g.cpuTime()
	g.out = g.last.samples(g.out, g.label)
	g.addCPU()
	return g.out, errors.Join(g.isCut(), pssErr, memErr, cpuErr)
}

// isCut says that figures are of a part of the group: its CPU time, where its cgroup does not count that, and all
// of its memory that is not the cgroup's own count.
func (g *Group) isCut() error {
	if !g.members.cut {
		return nil
	}
	return fmt.Errorf("%w: %d processes of group %q or more, memory is that of %d of them",
		ErrCut, g.last.processes, g.cfg.Name, len(g.members.byPID))
}

func (g *Group) missing(err error) error {
	if err == nil && !g.seen {
		return fmt.Errorf("%w: no process of group %q by %s", ErrNoData, g.cfg.Name, g.finder.where())
	}
	return err
}

// refresh brings the list of processes up to date. A group that has vanished is
// looked for at once: a restarted service is back already.
func (g *Group) refresh(ctx context.Context) error {
	if g.source != nil && !g.finder.moved(g.at) {
		err := g.list()
		if err != nil || len(g.members.byPID) > 0 {
			return err
		}
	}
	if g.source != nil {
		g.lose()
	}
	found, err := g.finder.find(ctx, g.at)
	if err != nil || found == nil {
		g.members.exits = 0
		return err
	}
	g.source = found
	return g.list()
}

func (g *Group) lose() {
	if g.source != nil {
		g.source.close()
	}
	g.source, g.cpu, g.budget, g.denied = nil, cpuClock{}, pssBudget{}, nil
	g.late, g.more = nil, 0
	g.members.clear()
}

func (g *Group) list() (err error) {
	g.members.tick++
	g.threads = maxThreads
	if len(g.source.procs) > 0 {
		err = g.fromCgroup()
	} else {
		err = g.fromRoots()
	}
	g.members.sweep()
	g.more = max(len(g.pids)-maxMembers, 0)
	g.members.cut = g.more > 0 || g.threads < 0 || g.source.cut
	return err
}

func (g *Group) fromCgroup() error {
	g.pids = g.pids[:0]
	for i := range g.source.procs {
		b, err := g.source.readProcs(i, g.at, &g.buf)
		if err != nil {
			if err := unlessGone(err); err != nil {
				return err
			}
			continue
		}
		if g.pids, err = parsePIDs(b, g.pids); err != nil {
			return err
		}
	}
	g.source.listed = g.at
	for _, pid := range g.pids[:min(len(g.pids), maxMembers)] {
		if _, _, err := g.members.see(pid); err != nil {
			return err
		}
	}
	return nil
}

// fromRoots walks from the processes that were found down to their children.
func (g *Group) fromRoots() error {
	g.pids = append(g.pids[:0], g.source.roots...)
	for i := 0; i < min(len(g.pids), maxMembers); i++ {
		m, alive, err := g.members.see(g.pids[i])
		if err != nil {
			return err
		}
		if !alive {
			gone := g.pids[i] // its PID may be reused
			g.source.roots = slices.DeleteFunc(g.source.roots, func(pid int) bool { return pid == gone })
			continue
		}
		if err := unlessGone(g.children(m)); err != nil {
			return fmt.Errorf("list children: %w", err)
		}
	}
	return nil
}

// children appends m's children to g.pids. The kernel keeps them by the thread that forked them; most masters have one.
func (g *Group) children(m *member) error {
	if m.Threads <= 1 {
		b, err := m.children.read(&g.buf)
		if err == nil {
			g.pids, err = parsePIDs(b, g.pids)
		}
		if !m.kept {
			m.children.close()
		}
		return err
	}
	dir := strconv.Itoa(m.pid) + "/task"
	threads, err := firstOf(g.cfg.Proc, dir, max(g.threads, 0)+1)
	if g.threads -= len(threads); g.threads < 0 {
		return err
	}
	for _, t := range threads {
		b, err := readOnce(g.cfg.Proc, dir+"/"+t.Name()+"/children", &g.buf)
		if err != nil {
			continue // the thread ended
		}
		if g.pids, err = parsePIDs(b, g.pids); err != nil {
			return err
		}
	}
	return err
}

// memory adds the members up, and the cgroup's own figure where there is one.
func (g *Group) memory() error {
	f := &g.last
	t := shareTotals{now: g.at, sinceBoot: sinceBoot()}
	for _, m := range g.members.byPID {
		t.add(m)
	}
	f.rss, f.largest, f.growth, f.age = t.rss, t.largest, t.growth, t.age
	f.pss, f.hasPSS = t.pss()
	anon, ok, err := g.source.anon(&g.buf)
	if !ok || err != nil {
		return err
	}
	f.anon, f.hasAnon = float64(anon), true
	if f.hasPSS && t.hasAnon() {
		f.pss = f.anon + t.notAnon() // every tick exact but for the last term
	}
	return nil
}

// cpuTime and addCPU give the share of a CPU since the last tick: the cgroup's
// own count, which has the processes that came and went, or the members' sum.
func (g *Group) cpuTime() error {
	used, ok, err := g.source.cpuUsed(&g.buf)
	if ok {
		g.members.cpu = used
	} else if g.members.cut {
		g.cpu = cpuClock{} // those that were not looked at may have used any time
	}
	return err
}

func (g *Group) addCPU() {
	if percent, ok := g.cpu.percent(g.members.cpu, g.at); ok {
		g.out = append(g.out, Sample{"group_cpu", Percent, percent, g.label})
	}
}

// Snapshot returns the processes one by one, as of the last Collect that has returned. It may be called at any time
// and waits for none: a process can hold up a Collect.
func (g *Group) Snapshot() GroupSnapshot {
	g.published.Lock()
	defer g.published.Unlock()
	s := g.newest
	s.Processes = slices.Clone(s.Processes)
	return s
}

// publish is the end of a Collect.
func (g *Group) publish() {
	g.published.Lock()
	defer g.published.Unlock()
	s := GroupSnapshot{Name: g.cfg.Name, At: g.at, Anon: uint64(g.last.anon), Processes: g.newest.Processes[:0]}
	if g.source != nil {
		s.Found = g.source.found
	}
	boot := g.boot.at(g.at)
	for _, m := range g.members.byPID {
		s.Processes = append(s.Processes, Process{
			PID: m.pid, Parent: m.Parent, Started: boot.Add(m.SinceBoot()), Threads: m.Threads, CPU: m.CPU,
			RSS: m.rss, PSS: uint64(m.reading.estimate(m.rss)), Private: m.reading.private, ReadAt: m.reading.at,
		})
	}
	g.newest = s
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
