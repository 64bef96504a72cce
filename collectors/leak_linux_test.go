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
		kept = max(kept, len(beyond(before, descriptors(t))))
	}
	if kept < 5 {
		t.Errorf("got %d kept descriptors: the test has proved nothing", kept)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	_, after := settle()
	if left := beyond(before, after); len(left) > 0 {
		t.Errorf("descriptors left open: %q", left)
	}
	eventually(t, "the goroutines' end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// beyond returns what of now was not there before. Fewer may be there of before: other
// tests' are closed as the collector of garbage comes to them.
func beyond(before, now []string) []string {
	now = slices.Clone(now)
	for _, was := range before {
		if i := slices.Index(now, was); i >= 0 {
			now = slices.Delete(now, i, i+1)
		}
	}
	return now
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
	if more := beyond(first, descriptors(t)); len(more) > 0 {
		t.Errorf("a hundred ticks keep more open than one: %q", more)
	}
}
