package collectors

import (
	"context"
	"errors"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// collect asks c once and returns its samples by name.
func collect(t testing.TB, c Collector) (map[string]Sample, error) {
	t.Helper()
	out, err := c.Collect(context.Background())
	m := map[string]Sample{}
	for _, s := range out {
		if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
			t.Errorf("%s: %s is %v, which CloudWatch refuses", c.Name(), s.Name, s.Value)
		}
		if _, twice := m[s.Name]; twice && len(s.Labels) == 0 {
			t.Errorf("%s: %s comes twice", c.Name(), s.Name)
		}
		m[s.Name] = s
	}
	return m, err
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s: got %v, want %v ± %v", what, got, want, within)
	}
}

// run gives the words that a command prints.
func run(t *testing.T, name string, args ...string) []string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.Fields(string(out))
}

// figure is a word that is a number.
func figure(t *testing.T, word string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(word, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// free(1) is the judge, of both formulas. Memory moves between two readings, so
// the bound is a point.
func TestHostAgreesWithFree(t *testing.T) {
	h, old := NewHost(HostConfig{}), NewHost(HostConfig{CloudWatchAgentFormula: true})
	defer h.Close()
	defer old.Close()
	got, err := collect(t, h)
	if err != nil {
		t.Fatal(err)
	}
	gotOld, err := collect(t, old)
	if err != nil {
		t.Fatal(err)
	}
	// Mem: total used free shared buffers cache available
	words := run(t, "sh", "-c", "LC_ALL=C free -bw | grep Mem:; LC_ALL=C free -b | grep Swap: ; cat /proc/loadavg")
	total, free, available := figure(t, words[1]), figure(t, words[3]), figure(t, words[7])
	caches := figure(t, words[5]) + figure(t, words[6])
	swapTotal, swapUsed, load := figure(t, words[9]), figure(t, words[10]), figure(t, words[12])
	near(t, "mem_total", got["mem_total"].Value, total, 0)
	near(t, "mem_available", got["mem_available"].Value, available, total/100)
	near(t, "mem_available_percent", got["mem_available_percent"].Value, 100*available/total, 1)
	near(t, "mem_used_percent", got["mem_used_percent"].Value, 100-100*available/total, 1)
	near(t, "mem_used_percent, CloudWatch agent's", gotOld["mem_used_percent"].Value, 100*(total-free-caches)/total, 1)
	near(t, "swap_used_percent", got["swap_used_percent"].Value, 100*swapUsed/max(swapTotal, 1), 1)
	near(t, "load_1m", got["load_1m"].Value, load, 1)
}

// date(1) and uptime(1) are the judges.
func TestBootTimeAgreesWithUptime(t *testing.T) {
	want, err := time.ParseInLocation("2006-01-02 15:04:05", strings.Join(run(t, "uptime", "-s"), " "), time.Local)
	if err != nil {
		t.Fatal(err)
	}
	var b bootClock
	got := b.at(time.Now())
	near(t, "boot time", float64(got.Unix()), float64(want.Unix()), 2)
	if again := b.at(time.Now()); again != got {
		t.Errorf("within a minute: got %v, want %v again", again, got)
	}
}

// waiting returns a listener that accepts nobody, and n clients of it.
func waiting(t *testing.T, network, addr string, n int) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	for range n {
		c, err := net.Dial(network, ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return ln
}

// A backlog of n clients whom nobody accepts reads n, over TCP of either family
// and over a UNIX socket; who is accepted moves from the backlog into flight.
func TestBacklogOfUnacceptedClientsIsTheirNumber(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ name, network, addr string }{
		{"tcp4", "tcp4", "127.0.0.1:0"},
		{"tcp6", "tcp6", "[::1]:0"},
		{"unix", "unix", filepath.Join(dir, "app.sock")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := waiting(t, tt.network, tt.addr, 7)
			l := NewListen(configOf(ln))
			defer l.Close()
			for accepted := range 3 {
				l.next = time.Time{} // count connections each time
				got, err := collect(t, l)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "listen_backlog", got["listen_backlog"].Value, float64(7-accepted), 0)
				near(t, "listen_connections", got["listen_connections"].Value, float64(accepted), 0)
				if got["listen_backlog_limit"].Value < 7 {
					t.Errorf("listen_backlog_limit: got %v, want the queue's", got["listen_backlog_limit"].Value)
				}
				c, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
		})
	}
}

// A listener for both families has clients of both, and all of them count.
func TestConnectionsOfBothFamiliesCount(t *testing.T) {
	ln, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := NewListen(configOf(ln))
	defer l.Close()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accepted, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
	}
	got, err := collect(t, l)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "listen_connections", got["listen_connections"].Value, 2, 0)
}

func configOf(ln net.Listener) ListenConfig {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return ListenConfig{Port: uint16(a.Port)}
	}
	return ListenConfig{UnixPath: ln.Addr().String()}
}

// Where netlink is forbidden /proc/net says the same, once a minute.
func TestBacklogWithoutNetlink(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		addr := map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "app.sock")}[network]
		ln := waiting(t, network, addr, 5)
		l := NewListen(configOf(ln))
		defer l.Close()
		l.socket.diag.unusable = unix.EPROTONOSUPPORT
		got, err := collect(t, l)
		if err != nil {
			t.Fatal(err)
		}
		near(t, network+" listen_backlog", got["listen_backlog"].Value, 5, 0)
		if again, err := collect(t, l); err != nil || len(again) != 0 {
			t.Errorf("%s, second tick: got %v, %v, want nothing before a minute is over", network, again, err)
		}
	}
}

func TestNoListenerIsNoData(t *testing.T) {
	ln := waiting(t, "tcp", "127.0.0.1:0", 0)
	l := NewListen(configOf(ln))
	defer l.Close()
	ln.Close()
	if _, err := collect(t, l); !errors.Is(err, ErrNoData) {
		t.Errorf("got %v, want ErrNoData", err)
	}
	gone := NewListen(ListenConfig{UnixPath: filepath.Join(t.TempDir(), "gone.sock")})
	defer gone.Close()
	if _, err := collect(t, gone); !errors.Is(err, ErrNoData) {
		t.Errorf("got %v, want ErrNoData", err)
	}
}

// An application that restarts binds a new file at the same path.
func TestUnixListenerMadeAnewIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	ln := waiting(t, "unix", path, 2)
	l := NewListen(ListenConfig{UnixPath: path})
	defer l.Close()
	if _, err := collect(t, l); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	waiting(t, "unix", path, 3)
	got, err := collect(t, l)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "listen_backlog", got["listen_backlog"].Value, 3, 0)
}

// A server that took the path over has the clients, though the old one lives on and
// listens on a file that nobody finds any more.
func TestUnixListenerThatWasReplacedIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	waiting(t, "unix", path, 2).(*net.UnixListener).SetUnlinkOnClose(false)
	l := NewListen(ListenConfig{UnixPath: path})
	defer l.Close()
	if got, err := collect(t, l); err != nil || got["listen_backlog"].Value != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	waiting(t, "unix", path, 3)
	l.socket.nextStat = time.Time{} // a minute later
	got, err := collect(t, l)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "listen_backlog", got["listen_backlog"].Value, 3, 0)
}

// Ticks are never quite a multiple of the interval apart; each minute has a figure
// all the same.
func TestConnectionsAreCountedInEachMinute(t *testing.T) {
	ln := waiting(t, "tcp", "127.0.0.1:0", 0)
	l := NewListen(configOf(ln))
	defer l.Close()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(2 * time.Millisecond)
		for minute := range 3 {
			got, err := collect(t, l)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := got["listen_connections"]; !ok {
				t.Errorf("minute %d has no listen_connections", minute)
			}
			time.Sleep(time.Minute - time.Millisecond)
		}
	})
}

func TestSelfReadsItsOwnMemory(t *testing.T) {
	s := NewSelf()
	defer s.Close()
	if _, err := collect(t, s); err != nil {
		t.Fatal(err)
	}
	got, err := collect(t, s)
	if err != nil {
		t.Fatal(err)
	}
	rss, anon := got["agent_memory_rss"].Value, got["agent_memory_anon"].Value
	if !(0 < anon && anon < rss) {
		t.Errorf("got anon %v and rss %v, want 0 < anon < rss", anon, rss)
	}
	if _, ok := got["agent_cpu"]; !ok {
		t.Error("no agent_cpu at the second tick")
	}
}

// The host's own figures come from gopsutil, which allocates for each of its lines.
const hostAllocations = 250

func TestSteadyTickAllocatesNothing(t *testing.T) {
	ln := waiting(t, "tcp", "127.0.0.1:0", 1)
	for _, c := range []Collector{NewHost(HostConfig{}), NewDisk(DiskConfig{}), NewSelf(), NewListen(configOf(ln))} {
		if _, err := collect(t, c); err != nil {
			t.Fatal(err)
		}
		want := 0.0
		if c.Name() == "host" {
			want = hostAllocations
		}
		ctx := context.Background()
		if n := testing.AllocsPerRun(20, func() { c.Collect(ctx) }); n > want {
			t.Errorf("%s: got %v allocations a tick, want %v at most", c.Name(), n, want)
		}
	}
}
