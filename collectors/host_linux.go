package collectors

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
)

// hostKernel reads what gopsutil does not: pressure, and swapping without the rest of SwapMemory.
type hostKernel struct {
	vmstat   kernelFile
	pressure [3]pressureFile

	buf  []byte
	out  []Sample
	swap struct {
		last vmstat
		at   time.Time
	}
}

type pressureFile struct {
	kernelFile
	some, full string // sample names; cpu has no full: for a whole host it is 0
	last       pressure
	at         time.Time // of last
	absent     bool
}

func newHostKernel(proc string) hostKernel {
	fsys := os.DirFS(proc)
	h := hostKernel{vmstat: kernelFile{fsys: fsys, name: "vmstat"}, buf: make([]byte, 8192)}
	for i, kind := range []string{"memory", "cpu", "io"} {
		p := &h.pressure[i]
		p.fsys, p.name = fsys, "pressure/"+kind
		p.some, p.full = "pressure_"+kind+"_some", "pressure_"+kind+"_full"
	}
	h.pressure[1].full = ""
	return h
}

func (h *hostKernel) close() {
	h.vmstat.close()
	for i := range h.pressure {
		h.pressure[i].close()
	}
}

// swapOf returns what VirtualMemory found out too: SwapMemory would read more files for it.
func swapOf(_ context.Context, m *mem.VirtualMemoryStat) (total, free uint64, err error) {
	return m.SwapTotal, m.SwapFree, nil
}

// collect adds to out. A host without swap does not pay for reading vmstat.
func (h *hostKernel) collect(out []Sample, hasSwap bool) ([]Sample, error) {
	h.out = out
	now := time.Now()
	var errs []error
	if hasSwap {
		if err := h.swapping(now); err != nil {
			errs = append(errs, err)
		}
	}
	for i := range h.pressure {
		if err := h.stalls(&h.pressure[i], now); err != nil {
			errs = append(errs, err)
		}
	}
	return h.out, errors.Join(errs...)
}

// swapping gives the pages moved since the last tick, as a rate.
func (h *hostKernel) swapping(now time.Time) error {
	b, err := h.vmstat.read(&h.buf)
	if err != nil {
		return err
	}
	v, err := parseVmstat(b)
	if err != nil {
		return err
	}
	if secs := now.Sub(h.swap.at).Seconds(); !h.swap.at.IsZero() && secs > 0 {
		rate := float64(os.Getpagesize()) / secs
		h.out = append(h.out,
			Sample{"swap_in", BytesPerSecond, rate * since(v.swapIn, h.swap.last.swapIn), nil},
			Sample{"swap_out", BytesPerSecond, rate * since(v.swapOut, h.swap.last.swapOut), nil})
	}
	h.swap.last, h.swap.at = v, now
	return nil
}

func (h *hostKernel) stalls(f *pressureFile, now time.Time) error {
	if f.absent {
		return nil
	}
	b, err := f.read(&h.buf)
	if err != nil {
		f.absent = errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported)
		if f.absent {
			return nil // built without PSI, or switched off: for good, until a reboot
		}
		return err
	}
	p, err := parsePressure(b)
	if err != nil {
		return err
	}
	elapsed := now.Sub(f.at)
	if f.at.IsZero() {
		elapsed = 0
	}
	h.stall(f.some, p.some, f.last.some, elapsed)
	h.stall(f.full, p.full, f.last.full, elapsed)
	f.last, f.at = p, now
	return nil
}

// stall gives the exact share of the time since the last tick; at the first one the kernel's own mean of ten seconds.
func (h *hostKernel) stall(name string, now, last stall, elapsed time.Duration) {
	if name == "" || !now.has {
		return
	}
	share := now.avg10
	if elapsed > 0 {
		share = 100 * since(now.total, last.total) / float64(elapsed.Microseconds())
	}
	h.out = append(h.out, Sample{name, Percent, min(share, 100), nil})
}

// since is the growth of a counter; 0 when it went back, which only a counter that started anew does.
func since(now, last uint64) float64 {
	if now < last {
		return 0
	}
	return float64(now - last)
}

// bootClock is when the host started, to the second, read once a minute: the system's clock may be set meanwhile.
type bootClock struct {
	boot time.Time // zero: not known
	next time.Time // when to read it again
}

func (b *bootClock) at(now time.Time) time.Time {
	if now.Before(b.next) {
		return b.boot
	}
	b.next = now.Add(time.Minute)
	if s, err := host.BootTimeWithContext(gopsutilContext(context.Background(), "/proc")); err == nil {
		b.boot = time.Unix(int64(s), 0)
	}
	return b.boot
}
