package collectors

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Anybody can make tens of thousands of listeners, and the application as many descriptors: each was compared with each,
// while the status, the health target and the watchdog waited.
func TestListenersOfStrangersCostLittle(t *testing.T) {
	for range 400 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
	}
	cost := func(listeners int) time.Duration {
		p := Ports{pids: []int{os.Getpid()}}
		for i := range listeners {
			p.listeners = append(p.listeners, listener{uint32(i), uint16(i)})
		}
		least := time.Hour
		for range 5 {
			began := time.Now()
			p.look()
			least = min(least, time.Since(began))
		}
		return least
	}
	if few, many := cost(10), cost(maxListeners); many > 3*few {
		t.Errorf("with 10 listeners a look takes %s, with %d %s", few, maxListeners, many)
	}
}

// A server's workers share what it has open: so many are looked at, not so many times as there are workers.
func TestDescriptorsOfAllWorkersAreBounded(t *testing.T) {
	looked := 0
	p := Ports{}
	for range maxListening {
		looked += p.add(os.Getpid(), 3, map[uint16]bool{})
	}
	if looked != 3*maxListening {
		t.Errorf("%d descriptors were looked at, want 3 of each", looked)
	}
	if maxLooked > 2*maxOpen {
		t.Errorf("%d of all are more than two workers' most", maxLooked)
	}
}

// A listener that comes and goes does not have a slow look made again each time.
func TestSlowLooksAreSeldom(t *testing.T) {
	p := Ports{last: []uint16{80}, notBefore: time.Now().Add(time.Hour)}
	defer p.Close()
	if got, err := p.Of([]int{os.Getpid()}); err != nil || len(got) != 1 || got[0] != 80 {
		t.Errorf("got %d, %v, want what the last look found", got, err)
	}
}
