package command

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Status is how a command ended. A code other than 0 is a Status, not an error.
type Status struct {
	Code       int            // 0 … 255 as the command chose it; 128+Signal when a signal ended it
	Signal     syscall.Signal // 0: it ended by itself
	OOM        bool           // the kernel killed one of its processes for memory
	PeakMemory uint64         // bytes; of the group where known, else of the largest process; 0: not known
	CPU        time.Duration  // user and system, of the command and the children it waited for
}

// Process is a command that was started.
type Process struct {
	PID   int
	Begun uint64 // start time in clock ticks since boot, for a PID may be reused; 0: not known, or in a control group

	done   chan struct{}
	status Status // written before done is closed

	killed bool // it did not become the command; guarded by Reaper.mu
	uid    uint32
}

// Done is closed when the command itself has ended; its child processes may still run.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the command ended. It is valid once Done is closed.
func (p *Process) Status() Status { return p.status }

// Reaper collects every child of this process: its commands, and orphans that a subreaper inherits. While it runs,
// nothing else in the process may wait for children: os/exec's Wait would not find them. The zero value is ready.
//
// Reason: one signal and one goroutine serve any number of commands on every kernel. A goroutine blocked in
// wait4 needs a thread for each.
type Reaper struct {
	mu    sync.Mutex // held from before fork until the child is in procs, so that its end is not missed
	procs map[int]*Process
}

// Run collects until ctx is done. Children that end later stay zombies.
func (r *Reaper) Run(ctx context.Context) error {
	ended := make(chan os.Signal, 1) // one is enough: each wake collects all
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.collect()
		select {
		case <-ended:
		case <-r.again(): // the kernel may have given the signal to a thread that hangs in a call
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// again fires after a second while there are commands.
func (r *Reaper) again() <-chan time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.procs) == 0 {
		return nil
	}
	return time.After(time.Second)
}

func (r *Reaper) collect() {
	for {
		r.mu.Lock()
		var ws syscall.WaitStatus
		var usage syscall.Rusage
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, &usage)
		if err == syscall.EINTR {
			r.mu.Unlock()
			continue
		}
		p := r.procs[pid]
		delete(r.procs, pid)
		r.mu.Unlock()
		if err != nil || pid <= 0 {
			return
		}
		if p != nil {
			p.status = statusOf(ws, usage, ownPeak())
			close(p.done)
		}
	}
}

// statusOf converts the result of wait4. A child's peak begins at its parent's (own), whose memory it shares
// until exec, so a peak below that is not known and left out.
func statusOf(ws syscall.WaitStatus, usage syscall.Rusage, own int64) Status {
	s := Status{Code: ws.ExitStatus(), CPU: time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
	if usage.Maxrss > own {
		s.PeakMemory = uint64(usage.Maxrss) * maxrssUnit
	}
	if ws.Signaled() {
		s.Signal = ws.Signal()
		s.Code = 128 + int(s.Signal)
	}
	return s
}

func ownPeak() int64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Maxrss
}

// adopt runs fork and registers the child, which is created in g.
func (r *Reaper) adopt(g *Group, fork func() (pid int, err error)) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	if r.procs == nil {
		r.procs = make(map[int]*Process)
	}
	p := &Process{PID: pid, done: make(chan struct{})}
	if g == nil || !g.place.Grouped() { // the child is not collected yet, so its start time can be read
		p.Begun = StartTime(pid)
	}
	r.procs[pid] = p
	return p, nil
}

// unkillable counts the processes of a user that were killed and have not ended.
func (r *Reaper) unkillable(uid uint32) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.procs {
		if p.killed && p.uid == uid {
			n++
		}
	}
	return n
}

// kill ends a child that did not become a command, and waits a moment for its end. One in a call that the kernel does
// not interrupt ends later, or never.
func (r *Reaper) kill(p *Process, uid uint32) {
	r.mu.Lock()
	if r.procs[p.PID] == p { // not collected: the number is still its own
		p.killed, p.uid = true, uid
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may have become the command just now
	}
	r.mu.Unlock()
	select {
	case <-p.done:
	case <-time.After(time.Second):
	}
}
