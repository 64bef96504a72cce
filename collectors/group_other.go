//go:build !linux

package collectors

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v3/net"
	"github.com/shirou/gopsutil/v3/process"
)

// Group reads one group of processes, by gopsutil: those that listen on Port or match Match, and their children.
// Cgroup, Unit and UnixPath find nothing here, and memory is resident memory only: this system does not tell shares.
type Group struct {
	cfg   GroupConfig
	label []Label

	mu    sync.Mutex
	roots []*process.Process
	procs []Process
	seen  map[int32]time.Duration // CPU time by process
	next  time.Time               // when to look for the group again
	at    time.Time
	used  time.Duration
	cpu   cpuClock
	found bool // at least once
}

// NewGroup returns a Group.
func NewGroup(cfg GroupConfig) *Group {
	cfg.complete()
	return &Group{cfg: cfg, label: groupLabel(cfg.Name), seen: map[int32]time.Duration{}}
}

// Name is "group", and the group's name.
func (g *Group) Name() string { return "group " + g.cfg.Name }

// Close does nothing.
func (g *Group) Close() error { return nil }

// Collect reads the group; it looks for it at most once a minute.
func (g *Group) Collect(ctx context.Context) ([]Sample, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = time.Now()
	g.roots = slices.DeleteFunc(g.roots, func(p *process.Process) bool {
		alive, err := p.IsRunningWithContext(ctx)
		return err != nil || !alive
	})
	if len(g.roots) == 0 && !g.at.Before(g.next) {
		g.next = g.at.Add(time.Minute)
		if err := g.find(ctx); err != nil {
			return nil, err
		}
	}
	before := len(g.procs)
	g.procs = g.procs[:0]
	for _, p := range g.roots {
		g.add(ctx, p)
	}
	f := groupFigures{processes: len(g.procs), exits: max(before-len(g.procs), 0)}
	for _, p := range g.procs {
		f.rss += float64(p.RSS)
	}
	out := f.samples(nil, g.label)
	if percent, ok := g.cpu.percent(g.used, g.at); ok && len(g.procs) > 0 {
		out = append(out, Sample{"group_cpu", Percent, percent, g.label})
	}
	g.found = g.found || len(g.procs) > 0
	if !g.found {
		return out, fmt.Errorf("%w: no process of group %q by port %d or pattern", ErrNoData, g.cfg.Name, g.cfg.Port)
	}
	return out, nil
}

func (g *Group) find(ctx context.Context) error {
	if g.cfg.Port != 0 {
		conns, err := net.ConnectionsWithContext(ctx, "tcp")
		if err != nil {
			return fmt.Errorf("find listener of port %d: %w", g.cfg.Port, err)
		}
		for _, c := range conns {
			if c.Status == "LISTEN" && c.Laddr.Port == uint32(g.cfg.Port) && c.Pid > 0 {
				g.root(ctx, c.Pid)
			}
		}
		g.topmost(ctx)
	}
	if len(g.roots) > 0 || g.cfg.Match == nil {
		return nil
	}
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, p := range all {
		line, err := p.CmdlineWithContext(ctx)
		if err == nil && p.Pid != int32(os.Getpid()) && g.cfg.Match.MatchString(line) && g.ours(ctx, p) {
			g.roots = append(g.roots, p)
		}
	}
	g.topmost(ctx)
	return nil
}

func (g *Group) root(ctx context.Context, pid int32) {
	if slices.ContainsFunc(g.roots, func(p *process.Process) bool { return p.Pid == pid }) {
		return
	}
	if p, err := process.NewProcessWithContext(ctx, pid); err == nil && g.ours(ctx, p) {
		g.roots = append(g.roots, p)
	}
}

// ours reports whether the group takes a process of this one's users.
func (g *Group) ours(ctx context.Context, p *process.Process) bool {
	uids, err := p.UidsWithContext(ctx)
	return g.cfg.Counts == nil || err == nil &&
		!slices.ContainsFunc(uids, func(uid int32) bool { return !g.cfg.Counts(uint32(uid)) })
}

// topmost leaves out the processes whose parent is among them.
func (g *Group) topmost(ctx context.Context) {
	var pids []int32
	for _, p := range g.roots {
		pids = append(pids, p.Pid)
	}
	g.roots = slices.DeleteFunc(g.roots, func(p *process.Process) bool {
		parent, err := p.PpidWithContext(ctx)
		return err == nil && slices.Contains(pids, parent)
	})
}

func (g *Group) add(ctx context.Context, p *process.Process) {
	m, err := p.MemoryInfoWithContext(ctx)
	if err != nil {
		return // gone
	}
	one := Process{PID: int(p.Pid), RSS: m.RSS}
	if parent, err := p.PpidWithContext(ctx); err == nil {
		one.Parent = int(parent)
	}
	if ms, err := p.CreateTimeWithContext(ctx); err == nil {
		one.Started = time.UnixMilli(ms)
	}
	if t, err := p.TimesWithContext(ctx); err == nil {
		one.CPU = time.Duration((t.User + t.System) * float64(time.Second))
		g.used += max(one.CPU-g.seen[p.Pid], 0)
		g.seen[p.Pid] = one.CPU
	}
	g.procs = append(g.procs, one)
	children, err := p.ChildrenWithContext(ctx)
	if err != nil {
		return // none: gopsutil says so by an error
	}
	for _, c := range children {
		g.add(ctx, c)
	}
}

// Snapshot returns the processes one by one, as of the last Collect. It may be
// called at any time, and waits for a Collect that is under way.
func (g *Group) Snapshot() GroupSnapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GroupSnapshot{Name: g.cfg.Name, At: g.at, Processes: slices.Clone(g.procs)}
	if len(g.roots) > 0 {
		s.Found = fmt.Sprintf("process %d and its children", g.roots[0].Pid)
	}
	return s
}
