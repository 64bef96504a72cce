package collectors

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gonet "github.com/shirou/gopsutil/v3/net"
	"github.com/shirou/gopsutil/v3/process"
	"golang.org/x/sys/unix"
)

// withCPU reports the CPU time of an operation beside its duration: on a busy
// machine, and for what waits, the figure that matters.
func withCPU(b *testing.B) (done func()) {
	cpu := func() int64 {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := cpu()
	return func() { b.ReportMetric(float64(cpu()-before)/float64(b.N)/1000, "cpu-µs/op") }
}

// Each collector, and the figures of one process and its group by gopsutil: compare
// within one run. Host and Disk are gopsutil but for pressure.

func benchCollect(b *testing.B, c Collector) {
	ctx := context.Background()
	c.Collect(ctx)
	b.ReportAllocs()
	for b.Loop() {
		c.Collect(ctx)
	}
}

func BenchmarkHost(b *testing.B) {
	h := NewHost(HostConfig{})
	defer h.Close()
	benchCollect(b, h)
}

// Every reading, without the minute's pause.
func BenchmarkDisk(b *testing.B) {
	d := NewDisk(DiskConfig{Every: time.Nanosecond})
	benchCollect(b, d)
}

func BenchmarkOOM(b *testing.B) {
	o := NewOOM(OOMConfig{})
	defer o.Close()
	benchCollect(b, o)
}

func BenchmarkSelf(b *testing.B) {
	s := NewSelf()
	defer s.Close()
	benchCollect(b, s)
}

func BenchmarkSelfGopsutil(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p, _ := process.NewProcess(int32(os.Getpid()))
		p.MemoryInfo()
		p.Times()
	}
}

func benchListen(b *testing.B, network, addr string) {
	ln, err := net.Listen(network, addr)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	cfg := configOf(ln)
	cfg.Connections = -1
	l := NewListen(cfg)
	defer l.Close()
	benchCollect(b, l)
}

func BenchmarkListenTCP(b *testing.B)  { benchListen(b, "tcp", "127.0.0.1:0") }
func BenchmarkListenUnix(b *testing.B) { benchListen(b, "unix", filepath.Join(b.TempDir(), "s")) }

func BenchmarkListenProcNet(b *testing.B) {
	l := newListenSocket(1, "", nil, os.DirFS("/proc"))
	b.ReportAllocs()
	for b.Loop() {
		l.byProc()
	}
}

// gopsutil lists sockets, but not their queues.
func BenchmarkListenGopsutil(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		gonet.ConnectionsPid("tcp", int32(os.Getpid()))
	}
}

func benchPrefork(b *testing.B, workers int, cgroup string) (*Group, *prefork) {
	var procs []string
	if cgroup != "" {
		procs = append(procs, filepath.Join(makeMemoryCgroup(b, cgroup), "cgroup.procs"))
	}
	p := startPrefork(b, prefork{workers: workers, shared: 8, own: 2}, procs...)
	cfg := GroupConfig{Name: "web", Port: p.port, PSSEvery: time.Hour}
	if cgroup != "" {
		cfg = GroupConfig{Name: "web", Cgroup: cgroup, PSSEvery: time.Hour}
	}
	return rich(NewGroup(cfg)), p
}

// The cost of a group grows with its size: by nothing else.
func BenchmarkGroupByChildren(b *testing.B) {
	for _, workers := range []int{2, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			g, _ := benchPrefork(b, workers, "")
			defer g.Close()
			benchCollect(b, g)
		})
	}
}

func BenchmarkGroupByCgroup(b *testing.B) {
	for _, workers := range []int{2, 8, 32} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			g, _ := benchPrefork(b, workers, fmt.Sprintf("collectors-bench-%d", workers))
			defer g.Close()
			benchCollect(b, g)
		})
	}
}

// One PSS reading, of a worker of about 20 MB.
func BenchmarkGroupPSSReading(b *testing.B) {
	g, _ := benchPrefork(b, 1, "")
	defer g.Close()
	g.Collect(context.Background())
	var m *member
	for _, m = range g.members.byPID {
	}
	b.ReportAllocs()
	for b.Loop() {
		g.readShare(b.Context(), m)
	}
}

func BenchmarkGroup8Gopsutil(b *testing.B) {
	g, p := benchPrefork(b, 8, "")
	defer g.Close()
	b.ReportAllocs()
	for b.Loop() {
		master, _ := process.NewProcess(int32(p.cmd.Process.Pid))
		all, _ := master.Children()
		for _, one := range append(all, master) {
			one.MemoryInfo()
			one.Times()
		}
	}
}

// BenchmarkNaiveWalk is what an agent does that looks for the group at every
// tick: every process's command line, then memory and times of those that match.
func BenchmarkNaiveWalk(b *testing.B) {
	p := startPrefork(b, prefork{workers: 8, shared: 8, own: 2})
	b.ReportAllocs()
	defer withCPU(b)()
	for b.Loop() {
		found := 0
		all, _ := process.Processes()
		for _, one := range all {
			if line, _ := one.Cmdline(); strings.Contains(line, "prefork.py") {
				one.MemoryInfo()
				one.Times()
				found++
			}
		}
		if found < p.workers+1 {
			b.Fatalf("found %d processes, want %d", found, p.workers+1)
		}
	}
}

// newTick is everything the agent collects.
func newTick(b testing.TB, connections time.Duration) *Gatherer {
	p := startPrefork(b, prefork{workers: 8, shared: 8, own: 2})
	return NewGatherer(time.Minute, NewHost(HostConfig{}), NewDisk(DiskConfig{}), NewOOM(OOMConfig{}), NewSelf(),
		NewListen(ListenConfig{Port: p.port, Connections: connections}), rich(NewGroup(GroupConfig{Name: "web", Port: p.port, PSSEvery: time.Hour})))
}

func BenchmarkTick(b *testing.B) {
	g := newTick(b, -1)
	defer g.Close()
	ctx, at := context.Background(), time.Now()
	g.Gather(ctx, at)
	b.ReportAllocs()
	defer withCPU(b)()
	for b.Loop() {
		g.Gather(ctx, at)
	}
}

// BenchmarkColdTick waits between two ticks, as an agent does: by then the
// caches are somebody else's, and a tick costs several times the hot one.
func BenchmarkColdTick(b *testing.B) {
	g := newTick(b, -1)
	defer g.Close()
	ctx, pause := context.Background(), time.NewTicker(250*time.Millisecond)
	defer pause.Stop()
	g.Gather(ctx, time.Now())
	b.ReportAllocs()
	defer withCPU(b)()
	for b.Loop() {
		g.Gather(ctx, <-pause.C)
	}
}

// Nothing on the way of a whole tick allocates, once all is open, but gopsutil.
func TestSteadyWholeTickAllocatesWhatTheHostDoes(t *testing.T) {
	g := newTick(t, -1)
	defer g.Close()
	ctx, at := context.Background(), time.Now()
	g.Gather(ctx, at)
	g.Gather(ctx, at)
	if n := testing.AllocsPerRun(20, func() { g.Gather(ctx, at) }); n > hostAllocations {
		t.Errorf("got %v allocations a tick, want %d at most", n, hostAllocations)
	}
}
