package supervisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// direct is a run whose parent is its client: there is no record, control group, limit or lock.
type direct struct {
	proc *command.Process
	io   streams
}

// Direct starts a command from its client's process, on the same streams as a run of a supervisor, and serves the
// session on conn. Files and conn stay the caller's. It takes over this process's children.
func Direct(req runs.Request, conn *os.File, files []int) (session.Child, error) {
	if err := command.CloseOnExec(); err != nil {
		return nil, err
	}
	own := make([]int, 0, len(files))
	for _, fd := range files { // streams close theirs
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, fmt.Errorf("copy a descriptor: %w", err)
		}
		own = append(own, fd)
	}
	c, err := net.FileConn(conn)
	if err != nil {
		return nil, fmt.Errorf("take the client's connection: %w", err)
	}
	d := &direct{}
	if d.io, err = streamsFor(runs.StartBody{Request: req}, "", c, own); err != nil {
		return nil, err
	}
	reaper := &command.Reaper{}
	go reaper.Run(context.Background()) // as long as this process
	d.proc, err = command.Start(command.Spec{Args: req.Args, Env: req.Env, Files: d.io.files(), Dir: req.Dir,
		Cred:  &command.Credential{UID: req.UID, GID: req.GID, Groups: req.Groups},
		Umask: req.Umask, Terminal: req.IO == runs.IOTerminal}, reaper)
	if err != nil {
		d.io.failed()
		return nil, err
	}
	d.io.begun(d)
	go d.follow() // its last act is the client's exit
	return d, nil
}

func (d *direct) follow() {
	<-d.proc.Done()
	if t, ok := d.io.(*terminal); ok {
		t.end()
	}
	st := d.proc.Status()
	d.io.finish(session.Exit{Code: st.Code, Signal: int(st.Signal)})
}

func (d *direct) name() string { return "direct" }

// Signal reaches the command's process group. The kernel drops SIGTSTP there, see StopsAtCtrlZ.
func (d *direct) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGTSTP {
		sig = syscall.SIGSTOP
	}
	select {
	case <-d.proc.Done():
		return syscall.ESRCH // its number may be somebody else's
	default:
	}
	return syscall.Kill(-d.proc.PID, sig)
}

func (d *direct) signal(sig syscall.Signal) error { return d.Signal(sig) }

func (d *direct) stop(string, time.Duration) {} // it has no limit

// vanished hangs up: the client has left before the end.
func (d *direct) vanished() { _ = d.Signal(syscall.SIGHUP) }

func (d *direct) saveScreen([]byte) {}

func (d *direct) makeRoom() {}
