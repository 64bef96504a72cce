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

// Reaper collects every child of this process: the commands it was given, and orphans that a subreaper
// inherits. While it runs, nothing else in the process may wait for children (os/exec's Wait would find
// them gone). The zero value is ready.
//
// Reason: one signal and one goroutine for any number of commands, on every kernel, where a goroutine
// blocked in wait4 holds a thread for each.
type Reaper struct {
	mu    sync.Mutex // held from before fork until the child is known, so that its end cannot be missed
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
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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

// statusOf reads what wait4 told. A child's peak begins with its parent's, whose memory it shared until it
// became the command, so a peak below that (own) is not known and left out.
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

// adopt runs fork and takes charge of the child it made.
func (r *Reaper) adopt(fork func() (pid int, err error)) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return nil, err
	}
	if r.procs == nil {
		r.procs = make(map[int]*Process)
	}
	p := &Process{PID: pid, Begun: StartTime(pid), done: make(chan struct{})} // not collected yet, so it can be asked
	r.procs[pid] = p
	return p, nil
}
