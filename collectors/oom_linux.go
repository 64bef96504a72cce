package collectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// OOM counts the processes that the kernel killed for want of memory since the
// last tick, those killed within a cgroup's limit too, as oom_kills (Count), and
// finds out who they were. The counter tells that, the kernel's log whom; so the
// log is opened only when the counter has risen.
type OOM struct {
	cfg    OOMConfig
	vmstat kernelFile
	buf    []byte
	out    []Sample

	started bool
	kills   uint64        // as of the last tick
	since   time.Duration // since boot: when the counter was last read
	owed    uint64        // kills not named yet
	lastSeq uint64        // of the log's records read, if any was
	read    bool
}

// NewOOM returns an OOM; it opens nothing before its first Collect. Kills before
// that are not its own.
func NewOOM(cfg OOMConfig) *OOM {
	if cfg.Proc == nil {
		cfg.Proc = os.DirFS("/proc")
	}
	if cfg.Kmsg == nil {
		cfg.Kmsg = openKmsg
	}
	return &OOM{cfg: cfg, vmstat: kernelFile{fsys: cfg.Proc, name: "vmstat"}, buf: make([]byte, 8192)}
}

// Name is "oom".
func (o *OOM) Name() string { return "oom" }

// Close gives back the open file.
func (o *OOM) Close() error {
	o.vmstat.close()
	return nil
}

// Collect reads the counter and, if it has risen, the log. Victims that cannot
// be named are an error beside the count.
func (o *OOM) Collect(context.Context) ([]Sample, error) {
	o.out = o.out[:0]
	now := bootClock()
	b, err := o.vmstat.read(&o.buf)
	if err != nil {
		return nil, err
	}
	v, err := parseVmstat(b)
	if err != nil {
		return nil, err
	}
	if !v.hasOOM {
		return nil, fmt.Errorf("%w: vmstat has no oom_kill; Linux 4.13 or later has it", ErrNoData)
	}
	risen := uint64(0)
	if o.started && v.oomKills > o.kills {
		risen = v.oomKills - o.kills
	}
	o.out = append(o.out, Sample{"oom_kills", Count, float64(risen), nil})
	err = o.name(risen)
	o.started, o.kills = true, v.oomKills
	if o.owed == 0 {
		o.since = now
	}
	return o.out, err
}

// name reads the log for the victims of this tick and those still owed from the
// last: the counter rises a moment before the log has the line.
func (o *OOM) name(risen uint64) error {
	late := o.owed
	o.owed += risen
	if o.owed == 0 {
		return nil
	}
	named, err := o.readLog()
	o.owed -= min(named, o.owed)
	if err != nil {
		o.owed = 0
		return fmt.Errorf("name the processes killed for want of memory: %w", err)
	}
	if unnamed := min(late, o.owed); unnamed > 0 {
		o.owed -= unnamed
		return fmt.Errorf("name the processes killed for want of memory: the kernel's log lacks %d", unnamed)
	}
	return nil
}

func (o *OOM) readLog() (named uint64, err error) {
	log, err := o.cfg.Kmsg()
	if err != nil {
		return 0, err
	}
	defer log.Close()
	var kills oomReader
	for {
		n, err := log.Read(o.buf)
		if err == io.EOF {
			return named, nil
		}
		if err != nil {
			return named, err
		}
		r, ok := parseKmsg(o.buf[:n])
		if !ok || !r.kernel || o.old(r) {
			continue
		}
		o.lastSeq, o.read = r.seq, true
		if v, ok := kills.read(string(r.text)); ok {
			named++
			o.report(v, r)
		}
	}
}

// old reports whether a record was read before, or is from before the last tick
// but one: the log may hold kills of days ago.
func (o *OOM) old(r kmsgRecord) bool {
	const slack = time.Second // the log's clock and ours drift apart a little
	return o.read && r.seq <= o.lastSeq || time.Duration(r.micros)*time.Microsecond < o.since-slack
}

func (o *OOM) report(v Victim, r kmsgRecord) {
	v.At = time.Now().Add(time.Duration(r.micros)*time.Microsecond - bootClock())
	if o.cfg.Name != nil {
		v.Name = o.cfg.Name(v.PID, v.Cgroup)
	}
	if o.cfg.Report != nil {
		o.cfg.Report(v)
	}
}

// bootClock is the clock of the kernel's log: time since boot, not counting sleep.
func bootClock() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// kmsgFile is /dev/kmsg, read without waiting for what is yet to come.
type kmsgFile struct{ fd int }

func openKmsg() (io.ReadCloser, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("open /dev/kmsg, which needs CAP_SYSLOG: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open /dev/kmsg: %w", err)
	}
	return kmsgFile{fd}, nil
}

func (k kmsgFile) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(k.fd, b)
		switch err {
		case nil:
			return n, nil
		case unix.EAGAIN:
			return 0, io.EOF
		case unix.EINTR, unix.EPIPE: // EPIPE: records were overwritten; go on with the next
		default:
			return 0, fmt.Errorf("read /dev/kmsg: %w", err)
		}
	}
}

func (k kmsgFile) Close() error { return unix.Close(k.fd) }
