package collectors

import (
	"context"
	"io/fs"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Self reads what the agent itself costs.
//
//	agent_memory_rss   Bytes    resident, pages of the binary included
//	agent_memory_anon  Bytes    what the host cannot take back: the honest figure
//	agent_cpu          Percent  of one CPU, since the last tick
//	agent_goroutines   Count
type Self struct {
	statm kernelFile
	buf   []byte
	out   []Sample
	cpu   cpuClock
}

// NewSelf returns a Self; it opens nothing before its first Collect.
func NewSelf() *Self { return newSelf(os.DirFS("/proc")) }

func newSelf(proc fs.FS) *Self {
	return &Self{statm: kernelFile{fsys: proc, name: "self/statm"}, buf: make([]byte, 256)}
}

// Name is "agent".
func (s *Self) Name() string { return "agent" }

// Close gives back the open file.
func (s *Self) Close() error {
	s.statm.close()
	return nil
}

// Collect reads the process's own figures.
func (s *Self) Collect(context.Context) ([]Sample, error) {
	s.out = append(s.out[:0], Sample{"agent_goroutines", Count, float64(runtime.NumGoroutine()), nil})
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return s.out, err
	}
	used := time.Duration(use.Utime.Nano() + use.Stime.Nano())
	if percent, ok := s.cpu.percent(used, time.Now()); ok {
		s.out = append(s.out, Sample{"agent_cpu", Percent, percent, nil})
	}
	b, err := s.statm.read(&s.buf)
	if err != nil {
		return s.out, err
	}
	rss, shared, err := parseStatm(b)
	if err != nil {
		return s.out, err
	}
	s.out = append(s.out,
		Sample{"agent_memory_rss", Bytes, rss, nil},
		Sample{"agent_memory_anon", Bytes, rss - shared, nil})
	return s.out, nil
}
