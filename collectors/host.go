package collectors

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
)

// HostConfig says where a Host reads and how it counts. Its zero value is right for a live host.
//
// A Host's samples:
//
//	mem_used_percent       Percent  100 − mem_available_percent
//	mem_available_percent  Percent  the kernel's MemAvailable, of the total
//	mem_available          Bytes
//	mem_total              Bytes
//	swap_used_percent      Percent  0 on a host without swap
//	swap_in, swap_out      Bytes/Second  none on a host without swap
//	load_1m                None
//	load_per_cpu           None     load_1m by the number of CPUs
//	pressure_KIND          Percent  time in which tasks waited, over the interval
//
// KIND is memory_some, memory_full, cpu_some, io_some or io_full: some tasks
// waited, or all of them at once. A kernel without pressure figures gives none.
//
// mem_used_percent differs from the CloudWatch agent's. That one, up to its version of 2025 at least, is (total − free
// − buffers − cached) of the total, as gopsutil v3 computes it. It takes tmpfs and shared memory, which are in the
// cache and cannot be dropped, for free, and knows nothing of the reserve that the kernel keeps: on the way to an OOM
// kill it can stay far below 100. gopsutil (from 4.25.8) and with it telegraf (from 1.36) have left it for
// MemAvailable. So do we; the figure is usually some points higher. CloudWatchAgentFormula brings the old one back, for
// alarms that were tuned to it.
type HostConfig struct {
	Proc string // optional: where /proc is; Linux only

	// CloudWatchAgentFormula makes mem_used_percent what the CloudWatch agent sends under that name.
	CloudWatchAgentFormula bool // optional
}

// Host reads the whole machine's memory, swap, load and pressure. A figure the kernel does not have is left out; one
// that cannot be read is an error beside the others.
type Host struct {
	cfg    HostConfig
	kernel hostKernel // what gopsutil does not read, or reads at a higher price
	out    []Sample

	load1    float64
	loadNext time.Time // when to read it again
}

// loadEvery bounds the cost of load_1m, a mean over a minute: with a tick of 5 s it is read at each third one.
const loadEvery = 14 * time.Second

// NewHost returns a Host; it opens nothing before its first Collect.
func NewHost(cfg HostConfig) *Host {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	return &Host{cfg: cfg, kernel: newHostKernel(cfg.Proc)}
}

// Name is "host".
func (h *Host) Name() string { return "host" }

// Close gives back the open files.
func (h *Host) Close() error {
	h.kernel.close()
	return nil
}

// Collect reads memory, swap, load and pressure.
func (h *Host) Collect(ctx context.Context) ([]Sample, error) {
	ctx = gopsutilContext(ctx, h.cfg.Proc)
	h.out = h.out[:0]
	swap, memoryErr := h.memory(ctx)
	loadErr := h.load(ctx)
	var kernelErr error
	h.out, kernelErr = h.kernel.collect(h.out, swap)
	return h.out, errors.Join(memoryErr, loadErr, kernelErr)
}

// memory reports whether the host has swap.
func (h *Host) memory(ctx context.Context) (hasSwap bool, err error) {
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return false, fmt.Errorf("read memory: %w", err)
	}
	if m.Total == 0 { // gopsutil passes over a file that it cannot read
		return false, errors.New("read memory: the system does not say how much there is")
	}
	swapTotal, swapFree, err := swapOf(ctx, m)
	if err != nil {
		return false, fmt.Errorf("read swap: %w", err)
	}
	total := float64(m.Total)
	available := min(float64(m.Available), total)
	used := 100 - 100*available/total
	if h.cfg.CloudWatchAgentFormula {
		used = 100 * (1 - min(float64(m.Free)+float64(m.Buffers)+float64(m.Cached), total)/total)
	}
	var swap float64
	if swapTotal > 0 {
		swap = 100 * (1 - float64(min(swapFree, swapTotal))/float64(swapTotal))
	}
	h.out = append(h.out,
		Sample{"mem_used_percent", Percent, used, nil},
		Sample{"mem_available_percent", Percent, 100 * available / total, nil},
		Sample{"mem_available", Bytes, available, nil},
		Sample{"mem_total", Bytes, total, nil},
		Sample{"swap_used_percent", Percent, swap, nil})
	return swapTotal > 0, nil
}

func (h *Host) load(ctx context.Context) error {
	if now := time.Now(); !now.Before(h.loadNext) {
		avg, err := load.AvgWithContext(ctx)
		if err != nil {
			return fmt.Errorf("read load: %w", err)
		}
		h.load1, h.loadNext = avg.Load1, now.Add(loadEvery)
	}
	h.out = append(h.out,
		Sample{"load_1m", None, h.load1, nil},
		Sample{"load_per_cpu", None, h.load1 / float64(runtime.NumCPU()), nil})
	return nil
}

// gopsutilContext has gopsutil read the given /proc, whatever HOST_PROC in the
// agent's environment says. Only Linux has one.
func gopsutilContext(ctx context.Context, proc string) context.Context {
	return context.WithValue(ctx, common.EnvKey, common.EnvMap{common.HostProcEnvKey: proc})
}
