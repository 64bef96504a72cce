//go:build !linux

package command

import (
	"errors"
	"syscall"
)

// session is the process group of a leader.
type session struct{ leader int }

// FindPlace finds that there are no control groups here.
func FindPlace(unit string) (*Place, error) { return &Place{}, nil }

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
