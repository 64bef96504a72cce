package collectors

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"beanstalk-agent/collectors/procread"
)

// silent is a /proc in which processes answer nothing of a name until they are released.
type silent struct {
	fs.FS
	name    string
	pids    []string
	release chan struct{}
	waiting atomic.Int32
}

func (f *silent) Open(name string) (fs.File, error) {
	if path.Base(name) == f.name && slices.Contains(f.pids, path.Dir(name)) {
		f.waiting.Add(1)
		<-f.release
		f.waiting.Add(-1)
	}
	return f.FS.Open(name)
}

// briefly collects as the Gatherer does, but for its limit.
func briefly(t *testing.T, g *Group) (map[string]Sample, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	out, err := g.Collect(ctx)
	got := map[string]Sample{}
	for _, s := range out {
		got[s.Name] = s
	}
	return got, err
}

// A process that holds the lock of its memory map costs its own shares and no other figure, and one read. What it
// answers later counts.
func TestSilentProcessCostsItsSharesOnly(t *testing.T) {
	all, err := os.ReadFile("testdata/v2/cgroup/system.slice/web.service/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	pids, err := parsePIDs(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	proc := &silent{FS: os.DirFS("testdata/v2/proc"), name: "smaps_rollup", release: make(chan struct{})}
	for _, pid := range pids {
		proc.pids = append(proc.pids, strconv.Itoa(pid))
	}
	g := rich(NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: proc, Sys: os.DirFS("testdata/v2/cgroup")}))
	defer g.Close()
	for range 3 {
		got, err := briefly(t, g)
		if !errors.Is(err, procread.ErrSilent) {
			t.Errorf("got %v", err)
		}
		if got["group_processes"].Value != 4 || got["group_memory_anon"].Value == 0 || got["group_memory_rss"].Value == 0 {
			t.Errorf("got %v", got)
		}
		if n := len(g.Snapshot().Processes); n != 4 {
			t.Errorf("Snapshot has %d processes", n)
		}
	}
	if n := proc.waiting.Load(); n > 1 {
		t.Errorf("%d reads wait", n)
	}
	close(proc.release)
	eventually(t, "all shares", func() bool {
		got, err := briefly(t, g)
		return err == nil && got["group_memory_pss"].Value > 0 && !g.Snapshot().Processes[0].ReadAt.IsZero()
	})
}

// Snapshot does not wait for a Collect that is held up.
func TestSnapshotWaitsForNoCollect(t *testing.T) {
	proc := &silent{FS: os.DirFS("testdata/v2/proc"), name: "smaps_rollup", release: make(chan struct{})}
	g := rich(NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: proc, Sys: os.DirFS("testdata/v2/cgroup")}))
	defer g.Close()
	if s := g.Snapshot(); len(s.Processes) != 0 {
		t.Errorf("before the first: got %v", s)
	}
	if _, err := collect(t, g); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.Snapshot(); len(s.Processes) != 4 || s.Found == "" || s.At.IsZero() {
		t.Errorf("got %+v", s)
	}
}

// However many processes a stranger has that do not tell their command line, the application's are found.
func TestSilentProcessesOfStrangersHideNothing(t *testing.T) {
	proc := fstest.MapFS{}
	var strangers []string
	for pid := 100; pid <= 200; pid++ {
		dir, uid := strconv.Itoa(pid), "64123"
		if pid == 200 { // the last in the list
			uid = "0"
		} else {
			strangers = append(strangers, dir)
		}
		proc[dir+"/stat"], proc[dir+"/cmdline"] = stat(pid, 1, 1), &fstest.MapFile{Data: []byte("celery")}
		proc[dir+"/status"] = &fstest.MapFile{Data: []byte("Name:\tx\nUid:\t" + strings.Repeat(uid+"\t", 4) + "\n")}
	}
	for name, counts := range map[string]func(uint32) bool{"root's count": onlyRoots, "everybody's count": nil} {
		held := &silent{FS: proc, name: "cmdline", pids: strangers, release: make(chan struct{})}
		g := NewGroup(GroupConfig{Name: "jobs", Match: regexp.MustCompile("celery"), Counts: counts, Proc: held, Sys: fstest.MapFS{}})
		got, err := collect(t, g)
		if n := int(held.waiting.Load()); err != nil || got["group_processes"].Value != 1 || counts != nil && n > 0 {
			t.Errorf("%s: got %v, %v, while %d are waited for", name, got["group_processes"], err, n)
		}
		g.Close()
		close(held.release)
		eventually(t, "no read is under way", func() bool { return held.waiting.Load() == 0 })
	}
}

// A process that does not tell its command line is not found, and others are.
func TestSilentProcessDoesNotHideOthers(t *testing.T) {
	proc := &silent{FS: os.DirFS("/proc"), name: "cmdline", release: make(chan struct{})}
	defer close(proc.release)
	p := startPrefork(t, prefork{workers: 1, shared: 1, own: 1})
	proc.pids = []string{"1", strconv.Itoa(os.Getpid())}
	f := finder{cfg: &GroupConfig{Proc: proc}}
	var found []int
	err := f.eachPID(func(pid int, dir string) {
		if b, err := f.cmdline(t.Context(), pid, 0); err == nil && len(b) > 0 {
			found = append(found, pid)
		}
	})
	if err != nil || slices.Contains(found, 1) || !slices.Contains(found, p.cmd.Process.Pid) {
		t.Errorf("got %v, %v", found, err)
	}
	if n := proc.waiting.Load(); n != 2 {
		t.Errorf("%d wait, want 2", n)
	}
}
