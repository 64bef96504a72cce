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

// OOM counts the processes that the kernel killed for want of memory since the last tick, those killed within a
// cgroup's limit too, as oom_kills (Count), and names them. The number is in /proc/vmstat, the names are in the
// kernel's log; so the log is read only when the number has risen. It is opened before, at its end: a record's time
// cannot tell an old kill from a new one, since the log's clock is not corrected as the system's is and some days later
// is seconds behind it.
type OOM struct {
	cfg    OOMConfig
	vmstat kernelFile
	buf    []byte
	out    []Sample

	started bool
	kills   uint64        // as of the last tick
	owed    uint64        // kills not named yet
	reader  oomReader     // of the log's lines about them
	log     io.ReadCloser // from the last look on; nil: it cannot be opened
	logErr  error         // why
}

// NewOOM returns an OOM; it opens nothing before its first Collect. Kills before that are not its own.
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

// Close gives back the open files.
func (o *OOM) Close() error {
	o.vmstat.close()
	if o.log != nil {
		return o.log.Close()
	}
	return nil
}

// Collect reads the counter and, if it has risen, the log. Victims that cannot be named are an error beside the count.
func (o *OOM) Collect(context.Context) ([]Sample, error) {
	o.out = o.out[:0]
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
	if !o.started {
		o.log, o.logErr = o.cfg.Kmsg()
	}
	risen := uint64(0)
	if o.started && v.oomKills > o.kills {
		risen = v.oomKills - o.kills
	}
	o.out = append(o.out, Sample{"oom_kills", Count, float64(risen), nil})
	err = o.name(risen)
	o.started, o.kills = true, v.oomKills
	return o.out, err
}

// name reads the log for the victims of this tick and those still owed from the
// last: the counter rises a moment before the log has the line.
func (o *OOM) name(risen uint64) error {
	late := o.owed
	o.owed += risen
	if o.owed == 0 {
		o.reader = oomReader{}
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
	if o.log == nil {
		return 0, o.logErr
	}
	for {
		n, err := o.log.Read(o.buf)
		if err == io.EOF {
			return named, nil
		}
		if err != nil {
			return named, err
		}
		r, ok := parseKmsg(o.buf[:n])
		if !ok || !r.kernel {
			continue
		}
		if v, ok := o.reader.read(string(r.text)); ok {
			named++
			o.report(v)
		}
	}
}

func (o *OOM) report(v Victim) {
	v.At = time.Now() // a tick late at most
	if o.cfg.Name != nil {
		v.Name = o.cfg.Name(v.PID, v.Cgroup)
	}
	if o.cfg.Report != nil {
		o.cfg.Report(v)
	}
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
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
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
