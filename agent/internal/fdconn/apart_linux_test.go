package fdconn

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is done apart has the descriptors that were moved and no other of this process, which has them no more.
func TestApartHasOnlyWhatWasMoved(t *testing.T) {
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	pipe := target("/proc/self/fd", p[0])
	result := make(chan []string)
	Apart(p[:1], func() {
		r := os.NewFile(uintptr(p[0]), "pipe") // which the poller waits for
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		for range 100 {
			runtime.GC() // starts the world, and asks the poller, on this thread
		}
		result <- targets("/proc/thread-self/fd")
	})
	if len(runtimeFiles()) != 2 {
		t.Errorf("the runtime's files are %v", runtimeFiles())
	}
	if target("/proc/self/fd", p[0]) == pipe {
		t.Error("the descriptor is here as well")
	}
	unix.Write(p[1], []byte("hello"))
	unix.Close(p[1])
	got := <-result
	if len(got) > 4+3 || !slices.Contains(got, pipe) || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "socket:") }) {
		t.Errorf("the thread has %q", got)
	}
}

// An eventfd that a client hands in is not the runtime's: a thread apart does not have it.
func TestApartHasNoEventsOfClients(t *testing.T) {
	ln, err := Listen(t.TempDir()+"/s", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	theirs, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(theirs)
	result := make(chan []int)
	Apart(nil, func() { result <- listed("/proc/thread-self/fd") })
	if got := <-result; slices.Contains(got, theirs) {
		t.Errorf("the thread has %v, and %d is a client's", got, theirs)
	}
}

func target(dir string, fd int) string {
	s, _ := os.Readlink(fmt.Sprintf("%s/%d", dir, fd))
	return s
}

func targets(dir string) (list []string) {
	for _, fd := range listed(dir) {
		list = append(list, target(dir, fd))
	}
	return list
}

// Hundreds at once leave this process's descriptors as they were.
func TestApartIsSafeAmongMany(t *testing.T) {
	before := len(listed("/proc/self/fd"))
	done := make(chan struct{})
	for range 300 {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		Apart(p[:], func() { unix.Close(p[0]); done <- struct{}{} })
	}
	for range 300 {
		<-done
	}
	if after := len(listed("/proc/self/fd")); after > before+2 { // of the poller
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func BenchmarkApart(b *testing.B) {
	done := make(chan struct{})
	for b.Loop() {
		Apart(nil, func() { done <- struct{}{} })
		<-done
	}
}
