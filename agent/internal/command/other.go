//go:build !linux

package command

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// session is the process group of a leader.
type session struct{ leader int }

// FindPlace finds that there are no control groups here.
func FindPlace(unit string) (*Place, error) { return &Place{}, nil }

// RaiseFileLimit raises nothing here.
func RaiseFileLimit(most int) int { return most }

// Group creates the group of one run.
func (p *Place) Group(id string, lim Limits) (*Group, error) {
	if lim.Memory > 0 {
		return nil, ErrNoMemoryLimit
	}
	return &Group{place: p, seen: &session{}}, nil
}

// Leader sets the group's first process; needed where there are no control groups.
func (g *Group) Leader(pid int) { g.seen.leader = pid }

func (g *Group) freeze() func() { return func() {} }

func (g *Group) kill() { g.Signal(syscall.SIGKILL) }

// processes names the process group with a negative number, as kill(2) takes it.
func (g *Group) processes() []int {
	if g.empty() {
		return nil
	}
	return []int{g.seen.leader}
}

func (g *Group) empty() bool {
	return g.seen.leader == 0 || errors.Is(syscall.Kill(-g.seen.leader, 0), syscall.ESRCH)
}

// Usage adds nothing: the kernel reports on the leader only.
func (g *Group) Usage(s *Status) {}

// Remove does nothing.
func (g *Group) Remove() error { return nil }

// start is vfork, which waits for the new process: other systems are for trials only.
func start(spec Spec, r *Reaper) (p *Process, err error) {
	if spec.NoNewPrivs {
		return nil, refused(spec, errors.New("no_new_privs is only known to Linux"))
	}
	if info, err := os.Stat(spec.Dir); spec.Dir != "" && (err != nil || !info.IsDir()) {
		return nil, refused(spec, fmt.Errorf("enter directory %q: %w", spec.Dir, cmp.Or(err, error(syscall.ENOTDIR))))
	}
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: []uintptr{uintptr(spec.Files[0]), uintptr(spec.Files[1]), uintptr(spec.Files[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Terminal, Ctty: 0},
	}
	if attr.Env == nil {
		attr.Env = []string{}
	}
	if c := spec.Cred; c != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups,
			NoSetGroups: os.Geteuid() != 0}
	}
	err = try(spec, func(path string, argv []string) (err error) {
		p, err = r.adopt(spec.Group, func() (int, error) { return syscall.ForkExec(path, argv, attr) })
		return err
	})
	return p, err
}

// CloseOnExec does nothing: other systems are for trials only.
func CloseOnExec() error { return nil }

const maxrssUnit = 1 // bytes, where it is not Linux

// Subreaper does nothing: other systems have none.
func Subreaper() error { return nil }

// StartTime is not known, so no process is taken for the rest of a lost run.
func StartTime(int) uint64 { return 0 }

// OpenTerminal is for Linux only so far.
func OpenTerminal(rows, cols uint16, uid uint32) (*Terminal, error) {
	return nil, errors.New("terminals are only supported on Linux; use -T")
}

// EndSession does nothing: without a start time no process is known to be the run's.
func EndSession(int, uint64) error { return nil }
