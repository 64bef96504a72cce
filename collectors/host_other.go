//go:build !linux

package collectors

import (
	"context"

	"github.com/shirou/gopsutil/v3/mem"
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
