//go:build !linux

package collectors

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v3/process"
)

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
