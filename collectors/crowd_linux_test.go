package collectors

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// openFiles counts the files that are open, and those that were opened.
type openFiles struct {
	fs.FS
	now, most, ever int
}

type openFile struct {
	fs.File
	of *openFiles
}

func (o *openFiles) Open(name string) (fs.File, error) {
	f, err := o.FS.Open(name)
	if err != nil {
		return nil, err
	}
	o.now++
	o.ever++
	o.most = max(o.most, o.now)
	if _, dir := f.(fs.ReadDirFile); dir {
		return openDir{openFile{f, o}}, nil
	}
	return openFile{f, o}, nil
}

func (f openFile) ReadAt(b []byte, at int64) (int, error) {
	return f.File.(interface {
		ReadAt([]byte, int64) (int, error)
	}).ReadAt(b, at)
}

func (f openFile) Close() error {
	f.of.now--
	return f.File.Close()
}

type openDir struct{ openFile }

func (d openDir) ReadDir(n int) ([]fs.DirEntry, error) { return d.File.(fs.ReadDirFile).ReadDir(n) }

// crowd is a /proc with a master that has so many children, and the cgroup of all of them.
func crowd(children int) (proc, sys fstest.MapFS) {
	proc = fstest.MapFS{"10/stat": stat(10, 1, 1), "10/cmdline": {Data: []byte("master")}}
	procs, list := "10\n", ""
	for pid := 11; pid < 11+children; pid++ {
		procs += fmt.Sprintln(pid)
		list += fmt.Sprint(pid, " ")
		proc[fmt.Sprintf("%d/stat", pid)] = stat(pid, 10, 1)
		proc[fmt.Sprintf("%d/task/%d/children", pid, pid)] = &fstest.MapFile{}
	}
	proc["10/task/10/children"] = &fstest.MapFile{Data: []byte(list)}
	const dir = "system.slice/web.service/"
	sys = fstest.MapFS{"cgroup.controllers": {}, dir + "cgroup.procs": {Data: []byte(procs)},
		dir + "memory.stat": {Data: []byte("anon 123456\n")}, dir + "cpu.stat": {Data: []byte("usage_usec 1\n")}}
	return proc, sys
}

// Each open stat file is the kernel's memory that is charged to the agent, and whoever forks chooses how many processes
// there are: fourteen thousand ended an agent of 96 MB.
func TestACrowdOfProcessesCostsAGroupLittle(t *testing.T) {
	for name, cfg := range map[string]GroupConfig{
		"in a unit":     {Unit: "web.service"},
		"of one parent": {Match: regexp.MustCompile("^master$")},
	} {
		t.Run(name, func(t *testing.T) {
			proc, sys := crowd(4 * maxMembers)
			open := &openFiles{FS: proc}
			cfg.Name, cfg.Proc, cfg.Sys = "web", open, sys
			g := NewGroup(cfg)
			defer g.Close()
			for range 2 {
				g.Collect(t.Context()) // it is found
			}
			open.ever = 0
			got, err := collect(t, g)
			if !errors.Is(err, ErrCut) || !strings.Contains(err.Error(), "4001 processes") {
				t.Errorf("got %v, want it to be said", err)
			}
			if open.most > 2*maxKept+10 || open.ever > 3*maxMembers {
				t.Errorf("%d files open at once, %d opened in a tick", open.most, open.ever)
			}
			if n := got["group_processes"].Value; n != 4*maxMembers+1 {
				t.Errorf("%v processes", n)
			}
			if n := got["group_memory_anon"].Value; cfg.Unit != "" && n != 123456 {
				t.Errorf("the cgroup's own memory is %v", n)
			}
			if n := len(g.Snapshot().Processes); n != maxMembers {
				t.Errorf("%d processes are shown", n)
			}
			if cfg.Unit == "" {
				return
			}
			proc, sys = crowd(7) // it is over
			open.FS, sys["cgroup.controllers"] = proc, nil
			g.Close()
			g.cfg.Proc, g.finder.hierarchy.sys, g.members.proc = open, sys, open
			if _, err := g.Collect(t.Context()); err != nil || len(g.members.byPID) != 8 || g.members.kept != 8 || open.now < 8 {
				t.Errorf("a usual group: %v, %d processes, %d with open files", err, len(g.members.byPID), g.members.kept)
			}
		})
	}
}

// What one process can have without end costs no more than its share: threads, each of which may have forked, and cgroups
// that were delegated.
func TestThreadsAndCgroupsHaveABound(t *testing.T) {
	proc, _ := crowd(1)
	proc["10/stat"].Data = []byte(strings.Replace(string(proc["10/stat"].Data), " 1 0 100 ", " 3000 0 100 ", 1))
	for tid := range 3000 {
		proc[fmt.Sprintf("10/task/%d/children", 100+tid)] = &fstest.MapFile{}
	}
	open := &openFiles{FS: proc}
	g := NewGroup(GroupConfig{Name: "web", Match: regexp.MustCompile("^master$"), Proc: open, Sys: fstest.MapFS{}})
	defer g.Close()
	if _, err := g.Collect(t.Context()); !errors.Is(err, ErrCut) || open.ever > 2*maxThreads {
		t.Errorf("threads: %v, %d files opened", err, open.ever)
	}
	_, sys := crowd(1)
	for i := range 1000 {
		sys[fmt.Sprintf("system.slice/web.service/%d/cgroup.procs", i)] = &fstest.MapFile{}
	}
	open = &openFiles{FS: sys}
	g = NewGroup(GroupConfig{Name: "web", Unit: "web.service", Proc: proc, Sys: open})
	defer g.Close()
	if _, err := g.Collect(t.Context()); !errors.Is(err, ErrCut) || open.most > maxCgroups+10 {
		t.Errorf("cgroups: %v, %d files open at once", err, open.most)
	}
}

// A command line may have megabytes, and there may be thousands of them.
func TestLongCommandLinesCostLittle(t *testing.T) {
	long := make([]byte, 1<<20)
	proc := fstest.MapFS{}
	for pid := range 1000 {
		proc[fmt.Sprintf("%d/cmdline", pid+2)] = &fstest.MapFile{Data: long}
		proc[fmt.Sprintf("%d/stat", pid+2)] = stat(pid+2, 1, 1)
	}
	proc["9999/cmdline"], proc["9999/stat"] = &fstest.MapFile{Data: []byte("python worker.py")}, stat(9999, 1, 1)
	counted := &readBytes{FS: proc}
	g := NewGroup(GroupConfig{Name: "jobs", Match: regexp.MustCompile("worker.py$"), Proc: counted, Sys: fstest.MapFS{}})
	defer g.Close()
	got, err := collect(t, g)
	if err != nil || got["group_processes"].Value != 1 {
		t.Errorf("got %v, %v", got["group_processes"].Value, err)
	}
	if counted.n > 64<<20 {
		t.Errorf("%d MB were read of 1 GB", counted.n>>20)
	}
}

// readBytes counts what is read.
type readBytes struct {
	fs.FS
	n int
}

func (r *readBytes) Open(name string) (fs.File, error) {
	f, err := r.FS.Open(name)
	if _, dir := f.(fs.ReadDirFile); err != nil || dir {
		return f, err
	}
	return &readFile{f, r}, nil
}

type readFile struct {
	fs.File
	of *readBytes
}

func (f *readFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.of.n += n
	return n, err
}

func (f *readFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.(interface {
		ReadAt([]byte, int64) (int, error)
	}).ReadAt(b, at)
	f.of.n += n
	return n, err
}

// Whoever makes listeners by the thousand, on the port of a group or at sockets of any path, has them looked at the more
// seldom, and their owner too.
func TestManyListenersAreLookedAtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newListenSocket(8000, "", nil, fstest.MapFS{})
		defer l.close()
		looks := 0
		for range 100 { // ticks
			now := time.Now()
			if err := l.look(now); err == nil {
				looks++
				l.pace.after(now, 100_000)
			} else if !errors.Is(err, ErrCut) {
				t.Skip(err)
			}
			time.Sleep(5 * time.Second)
		}
		if looks > 12 {
			t.Errorf("%d looks in 100 ticks at 100,000 sockets", looks)
		}
	})
	q := listenQueue{}
	for i := range uint32(100_000) {
		q.add(&diagSocket{inode: i, queue: 1})
	}
	if len(q.inodes) != maxInodes || q.backlog != 100_000 {
		t.Errorf("%d of a port are told apart, %d waiting", len(q.inodes), q.backlog)
	}
	dir := t.TempDir()
	ours := newListenSocket(0, filepath.Join(dir, "none"), nil, os.DirFS("/proc"))
	defer ours.close()
	for i := range 50 {
		ln, err := net.Listen("unix", filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	if err := ours.look(time.Now()); err != nil || ours.seen < 50 {
		t.Errorf("%d sockets counted, %v", ours.seen, err)
	}
}

// A search for the owner of a listener that is another at each tick compares nothing with each of many, and comes the more
// seldom the more there was to look at.
func TestOwnersOfManyListenersAreSoughtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proc := &fdProc{FS: fstest.MapFS{}, each: maxDescriptors, last: "socket:[7]"}
		f := finder{cfg: &GroupConfig{Name: "web", Port: 8000, Proc: manyPIDs{proc, 3}}, socket: &listenSocket{}}
		walks := 0
		for tick := range uint32(200) {
			now := time.Now()
			if f.pace.open(now) {
				walks++
				f.socket.found.inodes = []uint32{100 + tick}
				if pids, err := f.holders(); err != nil || len(pids) != 0 {
					t.Fatal(pids, err)
				}
				f.walked(now)
			}
			time.Sleep(5 * time.Second)
		}
		if walks > 12 || proc.reads > walks*3*maxDescriptors {
			t.Errorf("%d walks of %d descriptors in 200 ticks", walks, proc.reads)
		}
	})
}

// manyPIDs lists so many processes.
type manyPIDs struct {
	*fdProc
	n int
}

func (p manyPIDs) ReadDir(string) (list []fs.DirEntry, err error) {
	for i := range p.n {
		list = append(list, fdEntry(fmt.Sprint(i+2)))
	}
	return list, nil
}
