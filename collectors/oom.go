package collectors

import (
	"io"
	"io/fs"
	"time"
)

// OOMConfig says where victims are reported. Its zero value only counts kills.
type OOMConfig struct {
	// Report is called, from within Collect, for every process the kernel
	// killed for want of memory. It must return soon. Optional.
	Report func(Victim)

	// Name says what the killed process was to us: which job, session or worker, or "" if it knows none. The process is
	// gone by then; its cgroup tells which run it was. Optional.
	Name func(pid int, cgroup string) string

	Proc fs.FS // optional: what /proc is

	// Kmsg opens the kernel's log at its end: one record a Read, io.EOF when
	// there is no more yet. Optional, /dev/kmsg, which needs CAP_SYSLOG.
	Kmsg func() (io.ReadCloser, error)
}

// Victim is a process the kernel killed for want of memory.
type Victim struct {
	At      time.Time // when it was noticed
	PID     int
	Command string // up to 15 bytes; the process chose them
	Anon    uint64 // bytes of anonymous memory it held
	Cgroup  string // it was in, without the leading slash; "" if the kernel did not say
	Limit   string // the cgroup whose limit was reached; "" when the whole host ran out
	Name    string // by OOMConfig.Name
}
