package collectors

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"testing"
	"testing/fstest"
	"time"
)

// stat is what /proc/PID/stat says of a process that has used so many ticks of CPU.
func stat(pid, parent, ticks int) *fstest.MapFile {
	return &fstest.MapFile{Data: fmt.Appendf(nil, "%d (w) S %d 1 1 0 -1 0 0 0 0 0 %d 0 0 0 20 0 1 0 100 0 1000 0\n", pid, parent, ticks)}
}

// A worker that was forked and used a second of CPU between two ticks counts with
// all of it; what the group had used before it was found does not.
func TestANewWorkersTimeCounts(t *testing.T) {
	proc := fstest.MapFS{"10/stat": stat(10, 1, 5000)}
	ms := newMembers(proc)
	see := func(pids ...int) time.Duration {
		ms.tick++
		for _, pid := range pids {
			if m := ms.byPID[pid]; m != nil {
				m.stat.close() // a MapFS file is as it was when opened
			}
			if _, _, err := ms.see(pid); err != nil {
				t.Fatal(err)
			}
		}
		ms.sweep()
		return ms.cpu
	}
	if used := see(10); used != 0 {
		t.Errorf("found just now: %v", used)
	}
	proc["10/stat"], proc["11/stat"] = stat(10, 1, 5010), stat(11, 10, 100)
	if used := see(10, 11); used != 1100*time.Millisecond {
		t.Errorf("got %v, want 0.1 s of the old and 1 s of the new worker", used)
	}
}

// Of two servers that were found by one pattern one ends; whoever has its number
// next, days later, is no member. Nor is who has ended and was not waited for.
func TestADeadRootsNumberIsNobodys(t *testing.T) {
	proc := fstest.MapFS{
		"10/stat": stat(10, 1, 1), "10/cmdline": {Data: []byte("celery worker a")},
		"20/stat": stat(20, 1, 1), "20/cmdline": {Data: []byte("celery worker b")},
	}
	g := NewGroup(GroupConfig{Name: "jobs", Match: regexp.MustCompile("celery"), Proc: proc, Sys: fstest.MapFS{}})
	defer g.Close()
	processes := func() float64 {
		for _, m := range g.members.byPID {
			m.stat.close() // a MapFS file is as it was when opened
		}
		got, err := collect(t, g)
		if err != nil {
			t.Fatal(err)
		}
		return got["group_processes"].Value
	}
	near(t, "both", processes(), 2, 0)
	delete(proc, "10/stat")
	near(t, "one ended", processes(), 1, 0)
	proc["10/stat"] = stat(10, 1, 1)
	near(t, "a stranger has its number", processes(), 1, 0)
	proc["20/stat"] = &fstest.MapFile{Data: bytes.Replace(proc["20/stat"].Data, []byte(" S "), []byte(" Z "), 1)}
	delete(proc, "10/stat")
	near(t, "the other is a zombie", processes(), 0, 0)
}

// A service may hold several programs, as supervisord's does: what was found is the
// whole of it only when nothing else runs there.
func TestAServiceIsAGroupOnlyWhenNothingElseRunsInIt(t *testing.T) {
	cgroup := func(pid string) string { return pid + "/cgroup" }
	proc := fstest.MapFS{
		"5/stat": stat(5, 1, 1), "5/cmdline": {Data: []byte("supervisord")},
		"10/stat": stat(10, 5, 1), "10/cmdline": {Data: []byte("celery worker")}, "10/task/10/children": {Data: []byte("11 ")},
		"11/stat": stat(11, 10, 1), "11/cmdline": {Data: []byte("celery worker")},
		"20/stat": stat(20, 5, 1), "20/cmdline": {Data: []byte("celery beat")},
	}
	for _, pid := range []string{"5", "10", "11", "20"} {
		proc[cgroup(pid)] = &fstest.MapFile{Data: []byte("0::/system.slice/supervisord.service\n")}
	}
	sys := fstest.MapFS{"cgroup.controllers": {}, "system.slice/supervisord.service/cgroup.procs": {Data: []byte("5\n10\n11\n20\n")}}
	for pattern, want := range map[string]string{
		"^celery worker$": "2 by process 10 and its children",
		"^supervisord$":   `4 by cgroup "system.slice/supervisord.service"`,
	} {
		g := NewGroup(GroupConfig{Name: "jobs", Match: regexp.MustCompile(pattern), Proc: proc, Sys: sys})
		defer g.Close()
		out, err := collect(t, g)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v by %s", out["group_processes"].Value, g.Snapshot().Found); got != want {
			t.Errorf("%s: got %s, want %s", pattern, got, want)
		}
	}
}

// walks counts how often all processes are listed.
type walks struct {
	fs.FS
	n int
}

func (w *walks) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		w.n++
	}
	return fs.ReadDir(w.FS, name)
}

// All processes are listed when the group is looked for, not by the clock: neither
// while it is there, nor for a listener whose owner was sought in vain, nor more
// than once in a minute for a pattern that nothing matches.
func TestProcessesAreNotWalkedByTheClock(t *testing.T) {
	p := startPrefork(t, prefork{workers: 1, shared: 1, own: 1})
	ours, err := net.Listen("tcp", "127.0.0.1:0") // whose owner we are: it does not count
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for name, cfg := range map[string]GroupConfig{
		"while it is there":         {Port: p.port},
		"listener without an owner": {Port: uint16(ours.Addr().(*net.TCPAddr).Port)},
		"pattern without a match":   {Match: regexp.MustCompile("no such command line$")},
	} {
		t.Run(name, func(t *testing.T) {
			proc := &walks{FS: os.DirFS("/proc")}
			cfg.Name, cfg.Proc = "web", proc
			g := NewGroup(cfg)
			defer g.Close()
			for range 20 {
				g.Collect(t.Context())
			}
			if proc.n != 1 {
				t.Errorf("%d walks in 20 ticks, want 1", proc.n)
			}
		})
	}
}
