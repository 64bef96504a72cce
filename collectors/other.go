//go:build !linux

package collectors

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/process"
)

// hostKernel is empty: there are no pressure figures and no swapping rate here.
type hostKernel struct{}

func newHostKernel(string) (none hostKernel) { return none }

func (hostKernel) close() {}

func (hostKernel) collect(out []Sample, _ bool) ([]Sample, error) { return out, nil }

func swapOf(ctx context.Context, _ *mem.VirtualMemoryStat) (total, free uint64, err error) {
	s, err := mem.SwapMemoryWithContext(ctx)
	if err != nil {
		return 0, 0, err
	}
	return s.Total, s.Free, nil
}

// Listen has no data here: only Linux tells the length of an accept queue.
type Listen struct{ cfg ListenConfig }

// NewListen returns a Listen.
func NewListen(cfg ListenConfig) *Listen {
	cfg.complete()
	return &Listen{cfg}
}

// Name is "listen", and the group's name.
func (l *Listen) Name() string { return l.cfg.collector() }

// Close does nothing.
func (l *Listen) Close() error { return nil }

// Collect returns ErrNoData.
func (l *Listen) Collect(context.Context) ([]Sample, error) {
	return nil, fmt.Errorf("%w: this system does not show accept queues", ErrNoData)
}

// OOM has no data here: only Linux counts such kills.
type OOM struct{}

// NewOOM returns an OOM.
func NewOOM(OOMConfig) *OOM { return &OOM{} }

// Name is "oom".
func (o *OOM) Name() string { return "oom" }

// Close does nothing.
func (o *OOM) Close() error { return nil }

// Collect returns ErrNoData.
func (o *OOM) Collect(context.Context) ([]Sample, error) {
	return nil, fmt.Errorf("%w: this system does not count kills for want of memory", ErrNoData)
}

// Self reads what the agent itself costs, by gopsutil: agent_memory_rss,
// agent_cpu in percent of one CPU since the last tick, and agent_goroutines.
type Self struct{ cpu cpuClock }

// NewSelf returns a Self.
func NewSelf() *Self { return &Self{} }

// Name is "agent".
func (s *Self) Name() string { return "agent" }

// Close does nothing.
func (s *Self) Close() error { return nil }

// Collect reads the process's own figures.
func (s *Self) Collect(ctx context.Context) ([]Sample, error) {
	out := []Sample{{"agent_goroutines", Count, float64(runtime.NumGoroutine()), nil}}
	p, err := process.NewProcessWithContext(ctx, int32(os.Getpid()))
	if err != nil {
		return out, fmt.Errorf("read own process: %w", err)
	}
	m, err := p.MemoryInfoWithContext(ctx)
	if err != nil {
		return out, fmt.Errorf("read own memory: %w", err)
	}
	out = append(out, Sample{"agent_memory_rss", Bytes, float64(m.RSS), nil})
	t, err := p.TimesWithContext(ctx)
	if err != nil {
		return out, fmt.Errorf("read own CPU time: %w", err)
	}
	used := time.Duration((t.User + t.System) * float64(time.Second))
	if percent, ok := s.cpu.percent(used, time.Now()); ok {
		out = append(out, Sample{"agent_cpu", Percent, percent, nil})
	}
	return out, nil
}

// Ports knows no ports here.
type Ports struct{}

// Of returns none.
func (*Ports) Of(context.Context, []int) ([]uint16, error) { return nil, ErrNoData }

// Close does nothing.
func (*Ports) Close() error { return nil }
