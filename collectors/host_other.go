//go:build !linux

package collectors

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
)

// Host reads the whole machine's memory, swap and load, by gopsutil. There are
// no pressure figures and no swapping rate here.
type Host struct{ cfg HostConfig }

// NewHost returns a Host.
func NewHost(cfg HostConfig) *Host { return &Host{cfg} }

// Name is "host".
func (h *Host) Name() string { return "host" }

// Close does nothing.
func (h *Host) Close() error { return nil }

// Collect reads memory, swap and load.
func (h *Host) Collect(ctx context.Context) (out []Sample, err error) {
	var errs []error
	if m, err := readMemory(ctx); err != nil {
		errs = append(errs, err)
	} else {
		out = memorySamples(out, &m, h.cfg.CloudWatchAgentFormula)
	}
	if l, err := load.AvgWithContext(ctx); err != nil {
		errs = append(errs, fmt.Errorf("read load: %w", err))
	} else {
		out = append(out,
			Sample{"load_1m", None, l.Load1, nil},
			Sample{"load_per_cpu", None, l.Load1 / float64(runtime.NumCPU()), nil})
	}
	return out, errors.Join(errs...)
}

func readMemory(ctx context.Context) (m meminfo, err error) {
	v, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return m, fmt.Errorf("read memory: %w", err)
	}
	m = meminfo{total: v.Total, free: v.Free, available: v.Available, buffers: v.Buffers, cached: v.Cached}
	s, err := mem.SwapMemoryWithContext(ctx)
	if err != nil {
		return m, fmt.Errorf("read swap: %w", err)
	}
	m.swapTotal, m.swapFree = s.Total, s.Free
	return m, nil
}
