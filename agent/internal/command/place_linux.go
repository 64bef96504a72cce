package command

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// leaf is the supervisor's own group on v2, where only leaves may hold processes once a controller is on
// below. (From 254 systemd could create it, DelegateSubgroup=.)
const leaf = "supervisor"

// v1Controllers are the hierarchies a run is placed in: systemd's own so that stopping the unit ends it,
// memory and pids for their figures, freezer to stop it as a whole. Only the first is required.
var v1Controllers = []string{"name=systemd", "memory", "pids", "freezer"}

// FindPlace finds where runs may be contained. Control groups are used only when this process is in one
// called unit, which its unit file delegates: dividing a group that systemd owns would break systemd's rules.
// Otherwise runs are sessions. FindPlace moves this process to a leaf and ends runs of a dead predecessor.
func FindPlace(unit string) (*Place, error) {
	own, err := readFile("/proc/self/cgroup")
	if err != nil {
		return &Place{}, nil // no control groups in this kernel
	}
	mounts, err := readFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find control groups: %w", err)
	}
	paths := parseOwn(strings.NewReader(own))
	at := parseMounts(strings.NewReader(mounts))
	if path.Base(paths["name=systemd"]) == unit {
		return placeV1(unit, paths, at)
	}
	p := strings.TrimSuffix(paths[""], "/"+leaf)
	if path.Base(p) != unit {
		return &Place{}, nil
	}
	return placeV2(at.dir("", p))
}

func placeV2(root string) (*Place, error) {
	p := &Place{kind: "v2", dirs: []string{root}}
	own := filepath.Join(root, leaf)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, fmt.Errorf("divide control group: %w", err)
	}
	if err := write(own, "cgroup.procs", "0"); err != nil {
		return nil, fmt.Errorf("move into leaf control group: %w", err)
	}
	for _, c := range []string{"memory", "pids"} { // each alone: one may be absent
		if err := write(root, "cgroup.subtree_control", "+"+c); err == nil && c == "memory" {
			p.memory = root
		}
	}
	p.sweep()
	return p, nil
}

func placeV1(unit string, paths map[string]string, at mounts) (*Place, error) {
	p := &Place{kind: "v1"}
	for _, c := range v1Controllers {
		own, ok := paths[c]
		if !ok {
			continue
		}
		if path.Base(own) != unit { // systemd does not use this hierarchy, so the name is free
			own = path.Join(own, unit)
		}
		dir := at.dir(c, own)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			if c == v1Controllers[0] {
				return nil, fmt.Errorf("divide control group: %w", err)
			}
			continue
		}
		p.dirs = append(p.dirs, dir)
		if c == "memory" {
			p.memory = dir
		}
	}
	p.sweep()
	return p, nil
}

// sweep ends runs of a predecessor that died. Where systemd restarted us it has done so already.
func (p *Place) sweep() {
	entries, _ := os.ReadDir(p.dirs[0])
	for _, e := range entries {
		if !e.IsDir() || e.Name() == leaf {
			continue
		}
		g := p.at(e.Name())
		g.End()
		g.Remove()
	}
}

func (p *Place) at(id string) *Group {
	g := &Group{place: p}
	for _, dir := range p.dirs {
		g.dirs = append(g.dirs, filepath.Join(dir, id))
	}
	return g
}

// maxTasks bounds the threads of one run, where there is a pids controller: a fork bomb then fails by itself. The unit
// has no limit, since it would be one for all runs together. systemd gives web.service about as much (15 % of 32768).
const maxTasks = "4096"

// Group creates the group of one run. The caller deletes it with Remove.
func (p *Place) Group(id string, lim Limits) (*Group, error) {
	if lim.Memory > 0 && p.memory == "" {
		return nil, ErrNoMemoryLimit
	}
	if p.kind == "" {
		return &Group{place: p, seen: &session{}}, nil
	}
	g := p.at(id)
	for _, dir := range g.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			g.Remove()
			return nil, fmt.Errorf("make control group: %w", err)
		}
		_ = write(dir, "pids.max", maxTasks) // on v1 in one of them
	}
	if lim.Memory > 0 {
		if err := g.limitMemory(lim.Memory); err != nil {
			g.Remove()
			return nil, fmt.Errorf("limit memory: %w", err)
		}
	}
	return g, nil
}

// limitMemory limits memory and swap together: a run that swaps instead of ending slows down the others.
func (g *Group) limitMemory(n int64) error {
	dir, value := g.memoryDir(), strconv.FormatInt(n, 10)
	if g.place.kind == "v2" {
		_ = write(dir, "memory.swap.max", "0")  // absent without swap accounting
		_ = write(dir, "memory.oom.group", "1") // the whole run or nothing, not one child of it
		return write(dir, "memory.max", value)
	}
	if err := write(dir, "memory.limit_in_bytes", value); err != nil {
		return err
	}
	_ = write(dir, "memory.memsw.limit_in_bytes", value)
	return nil
}

// parseOwn reads /proc/self/cgroup (cgroups(7)): controller to path; v2's is the empty name.
func parseOwn(r io.Reader) map[string]string {
	paths := make(map[string]string)
	for s := bufio.NewScanner(r); s.Scan(); {
		_, rest, _ := strings.Cut(s.Text(), ":")
		names, p, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			paths[name] = p
		}
	}
	return paths
}

// mounts is where each hierarchy is mounted, and from which of its directories.
type mounts map[string]struct{ root, point string }

// dir returns the directory of path in the hierarchy of controller c.
func (m mounts) dir(c, p string) string {
	at := m[c]
	return filepath.Join(at.point, strings.TrimPrefix(p, strings.TrimSuffix(at.root, "/")))
}

// parseMounts reads /proc/self/mountinfo (proc(5)); the fields after " - " are type, source, options.
func parseMounts(r io.Reader) mounts {
	m := make(mounts)
	for s := bufio.NewScanner(r); s.Scan(); {
		left, right, _ := strings.Cut(s.Text(), " - ")
		f, fs := strings.Fields(left), strings.Fields(right)
		if len(f) < 5 || len(fs) < 3 {
			continue
		}
		at := struct{ root, point string }{f[3], f[4]}
		switch fs[0] {
		case "cgroup2":
			m[""] = at
		case "cgroup":
			for name := range strings.SplitSeq(fs[2], ",") {
				m[name] = at
			}
		}
	}
	return m
}
