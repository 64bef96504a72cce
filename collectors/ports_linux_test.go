package collectors

import (
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// The ports of a process are those it listens on, of either family, until it does not; a connection is none.
func TestPortsOfAProcess(t *testing.T) {
	var ports Ports
	defer ports.Close()
	of := func() []uint16 {
		t.Helper()
		ports.notBefore = time.Time{} // however slow this machine is
		got, err := ports.Of([]int{os.Getpid()})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := of()
	listen := func(address string) (net.Listener, uint16) {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err) // no IPv6
		}
		return ln, uint16(ln.Addr().(*net.TCPAddr).Port)
	}
	a, portA := listen("127.0.0.1:0")
	defer a.Close()
	b, portB := listen("[::1]:0")
	conn, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	want := slices.Sorted(slices.Values(append(before, portA, portB)))
	for range 2 {
		if got := of(); !slices.Equal(got, want) {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	b.Close()
	want = slices.DeleteFunc(want, func(p uint16) bool { return p == portB })
	if got := of(); !slices.Equal(got, want) {
		t.Errorf("one closed: got %d, want %d", got, want)
	}
	if got, err := ports.Of([]int{1 << 30}); err != nil || len(got) != 0 {
		t.Errorf("no such process: %d, %v", got, err)
	}
}

func BenchmarkPorts(b *testing.B) {
	var ports Ports
	defer ports.Close()
	for b.Loop() {
		if _, err := ports.Of([]int{os.Getpid()}); err != nil {
			b.Fatal(err)
		}
	}
}
