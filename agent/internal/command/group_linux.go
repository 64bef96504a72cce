package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cloneInto returns the directory to create the command in, on v2.
func (g *Group) cloneInto() (dir string, ok bool) {
	if g == nil || g.place.kind != "v2" {
		return "", false
	}
	return g.dirs[0], true
}

func (g *Group) needsThread() bool { return g != nil && g.place.kind == "v1" }

// enterThread moves the calling thread into the group, on v1, so that its children are created there.
func (g *Group) enterThread() error {
	if !g.needsThread() {
		return nil
	}
	for _, dir := range g.dirs {
		if err := write(dir, "tasks", strconv.Itoa(unix.Gettid())); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	return nil
}

// leaveThread moves the thread back, so that the group is empty once its command has ended.
func (g *Group) leaveThread() {
	if g.needsThread() {
		for _, dir := range g.dirs {
			_ = write(filepath.Dir(dir), "tasks", strconv.Itoa(unix.Gettid()))
		}
	}
}

// Leader sets the group's first process; needed where there are no control groups.
func (g *Group) Leader(pid int) {
	if g.seen != nil {
		g.seen.begin(pid)
	}
}

// freezeWait bounds the wait for a freeze: a process in an uninterruptible call delays it.
const freezeWait = 50 * time.Millisecond

// freeze stops every process of the group; thaw continues them. It is best effort: without it, a child of a
// process that forks all the time may miss a signal, and gets KILL later.
func (g *Group) freeze() (thaw func()) {
	dir, file, stop, run := g.freezer()
	if dir == "" || write(dir, file, stop) != nil {
		return func() {}
	}
	for end := time.Now().Add(freezeWait); !g.frozen(dir) && time.Now().Before(end); {
		time.Sleep(200 * time.Microsecond)
	}
	return func() { _ = write(dir, file, run) }
}

func (g *Group) freezer() (dir, file, stop, run string) {
	switch {
	case g.place.kind == "v2":
		return g.dirs[0], "cgroup.freeze", "1", "0"
	case g.place.kind == "v1":
		for _, dir := range g.dirs {
			if exists(filepath.Join(dir, "freezer.state")) {
				return dir, "freezer.state", "FROZEN", "THAWED"
			}
		}
	}
	return "", "", "", ""
}

func (g *Group) frozen(dir string) bool {
	if g.place.kind == "v2" {
		return counter(dir, "cgroup.events", "frozen") == 1
	}
	state, _ := readFile(filepath.Join(dir, "freezer.state"))
	return strings.TrimSpace(state) == "FROZEN"
}

// kill ends all at once: by one write (kernel 5.14), else frozen, so that no child is missed.
func (g *Group) kill() {
	if g.place.kind == "v2" && write(g.dirs[0], "cgroup.kill", "1") == nil {
		return
	}
	g.Signal(unix.SIGKILL)
}

func (g *Group) processes() []int {
	if g.seen != nil {
		return g.seen.members()
	}
	var pids []int
	filepath.WalkDir(g.dirs[0], func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() { // a run may divide its own group
			pids = append(pids, readPIDs(filepath.Join(p, "cgroup.procs"))...)
		}
		return nil
	})
	return pids
}

func (g *Group) empty() bool {
	if g.seen != nil {
		return g.seen.empty()
	}
	if g.place.kind == "v2" {
		return counter(g.dirs[0], "cgroup.events", "populated") != 1
	}
	return len(g.processes()) == 0
}

// Usage adds the kernel's figures for the whole group to s.
func (g *Group) Usage(s *Status) {
	dir := g.memoryDir()
	if dir == "" {
		return
	}
	peak, events := "memory.peak", "memory.events" // peak: kernel 5.19
	if g.place.kind == "v1" {
		peak, events = "memory.max_usage_in_bytes", "memory.oom_control" // oom_kill in it: kernel 4.13
	}
	s.OOM = counter(dir, events, "oom_kill") > 0
	text, err := readFile(filepath.Join(dir, peak))
	if n, perr := strconv.ParseUint(strings.TrimSpace(text), 10, 64); err == nil && perr == nil {
		s.PeakMemory = n
	}
}

func (g *Group) memoryDir() string {
	if g.place.memory == "" {
		return ""
	}
	return g.dirs[slices.Index(g.place.dirs, g.place.memory)]
}

// Remove deletes the control groups. The kernel keeps one busy for a moment after its last process.
func (g *Group) Remove() error {
	var errs []error
	for _, dir := range g.dirs {
		err := removeTree(dir)
		for range 20 {
			if !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(time.Millisecond)
			err = removeTree(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove control group: %w", err))
		}
	}
	return errors.Join(errs...)
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	return unix.Rmdir(dir)
}

// EndSession ends the rest of the run whose leader started at the given time, unless another process has that PID now.
func EndSession(leader int, start uint64) error {
	if now := StartTime(leader); now != 0 && now != start {
		return nil
	}
	g := &Group{place: &Place{}, seen: &session{foreign: true}}
	g.Leader(leader)
	return g.End(Step{Signal: unix.SIGTERM, Wait: killWait})
}
