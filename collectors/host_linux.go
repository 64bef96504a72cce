package collectors

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"time"
)

// Host reads the whole machine's memory, swap, load and pressure. A figure the
// kernel does not have is left out; one that cannot be read is an error beside
// the others.
type Host struct {
	cfg      HostConfig
	meminfo  kernelFile
	vmstat   kernelFile
	loadavg  kernelFile
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

// NewHost returns a Host; it opens nothing before its first Collect.
func NewHost(cfg HostConfig) *Host {
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	h := &Host{cfg: cfg, buf: make([]byte, 8192)}
	h.meminfo = kernelFile{fsys: cfg.Proc, name: "meminfo"}
	h.vmstat = kernelFile{fsys: cfg.Proc, name: "vmstat"}
	h.loadavg = kernelFile{fsys: cfg.Proc, name: "loadavg"}
	for i, kind := range []string{"memory", "cpu", "io"} {
		p := &h.pressure[i]
		p.fsys, p.name = cfg.Proc, "pressure/"+kind
		p.some, p.full = "pressure_"+kind+"_some", "pressure_"+kind+"_full"
	}
	h.pressure[1].full = ""
	return h
}

// Name is "host".
func (h *Host) Name() string { return "host" }

// Collect reads memory, swap, load and pressure.
func (h *Host) Collect(context.Context) ([]Sample, error) {
	h.out = h.out[:0]
	now := time.Now()
	var errs []error
	if err := h.memory(now); err != nil {
		errs = append(errs, err)
	}
	if err := h.load(); err != nil {
		errs = append(errs, err)
	}
	for i := range h.pressure {
		if err := h.stalls(&h.pressure[i], now); err != nil {
			errs = append(errs, err)
		}
	}
	return h.out, errors.Join(errs...)
}

// Close gives back the open files.
func (h *Host) Close() error {
	h.meminfo.close()
	h.vmstat.close()
	h.loadavg.close()
	for i := range h.pressure {
		h.pressure[i].close()
	}
	return nil
}

func (h *Host) memory(now time.Time) error {
	b, err := h.meminfo.read(&h.buf)
	if err != nil {
		return err
	}
	m, err := parseMeminfo(b)
	if err != nil {
		return err
	}
	h.out = memorySamples(h.out, &m, h.cfg.CloudWatchAgentFormula)
	if m.swapTotal == 0 {
		return nil // nothing can be swapped: vmstat is not worth its price
	}
	return h.swapping(now)
}

// swapping gives the pages moved since the last tick, as a rate.
func (h *Host) swapping(now time.Time) error {
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

func (h *Host) load() error {
	b, err := h.loadavg.read(&h.buf)
	if err != nil {
		return err
	}
	load, err := parseLoadavg(b)
	if err != nil {
		return err
	}
	h.out = append(h.out,
		Sample{"load_1m", None, load, nil},
		Sample{"load_per_cpu", None, load / float64(runtime.NumCPU()), nil})
	return nil
}

func (h *Host) stalls(f *pressureFile, now time.Time) error {
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

// stall gives the exact share of the time since the last tick; at the first one
// the kernel's own mean of ten seconds.
func (h *Host) stall(name string, now, last stall, elapsed time.Duration) {
	if name == "" || !now.has {
		return
	}
	share := now.avg10
	if elapsed > 0 {
		share = 100 * since(now.total, last.total) / float64(elapsed.Microseconds())
	}
	h.out = append(h.out, Sample{name, Percent, min(share, 100), nil})
}

// since is the growth of a counter; 0 when it went back, which only a counter
// that started anew does.
func since(now, last uint64) float64 {
	if now < last {
		return 0
	}
	return float64(now - last)
}
