package collectors

import (
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// descriptors are what this process has open, by what they lead to.
func descriptors(t *testing.T) (open []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to != "/proc/self/fd" {
			open = append(open, to)
		}
	}
	slices.Sort(open)
	return open
}

// Everything at once, through workers that come and go and a listener that
// vanishes: Close gives back every descriptor, and no goroutine stays.
func TestCloseGivesEverythingBack(t *testing.T) {
	p := startPrefork(t, prefork{workers: 3, shared: 1, own: 1})
	settle := func() (int, []string) { runtime.GC(); return runtime.NumGoroutine(), descriptors(t) }
	goroutines, before := settle()
	g := NewGatherer(10*time.Second,
		NewHost(HostConfig{}), NewDisk(DiskConfig{}), NewOOM(OOMConfig{}), NewSelf(),
		NewListen(ListenConfig{Port: p.port}), NewGroup(GroupConfig{Name: "web", Port: p.port}))
	kept := 0
	for i := range 20 {
		switch i {
		case 5:
			syscall.Kill(p.children(t)[0], syscall.SIGKILL)
		case 10:
			p.cmd.Process.Signal(syscall.SIGHUP)
		case 15:
			p.kill()
		}
		g.Gather(t.Context(), time.Now())
		kept = max(kept, len(descriptors(t))-len(before))
	}
	if kept < 5 {
		t.Errorf("got %d kept descriptors: the test has proved nothing", kept)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	_, after := settle()
	for _, was := range before { // the test itself has closed some
		if i := slices.Index(after, was); i >= 0 {
			after = slices.Delete(after, i, i+1)
		}
	}
	if len(after) > 0 {
		t.Errorf("descriptors left open: %q", after)
	}
	eventually(t, "the goroutines' end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// A steady state holds two descriptors a process and a few for the host: no
// more after a hundred ticks than after one.
func TestTicksKeepNoMoreDescriptors(t *testing.T) {
	p := startPrefork(t, prefork{workers: 3, shared: 1, own: 1})
	g := NewGroup(GroupConfig{Name: "web", Port: p.port, PSSEvery: time.Nanosecond})
	defer g.Close()
	if _, err := collect(t, g); err != nil {
		t.Fatal(err)
	}
	first := descriptors(t)
	for range 100 {
		if _, err := collect(t, g); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); len(after) != len(first) {
		t.Errorf("got %d descriptors after a hundred ticks, want %d as after one", len(after), len(first))
	}
}
