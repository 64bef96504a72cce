package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// Limits bound one run. Zero means none.
type Limits struct {
	Memory int64 // bytes, swap included
}

// ErrNoMemoryLimit reports that this place cannot limit memory.
var ErrNoMemoryLimit = errors.New("no memory controller here: a memory limit cannot be kept")

// Place is where runs are contained: a part of the control group tree that was delegated to this process,
// or sessions only. It is safe for concurrent use.
type Place struct {
	kind   string // "v2", "v1" or "" for none
	dirs   []string
	memory string // the directory among dirs with the memory controller, or empty
}

// String describes how well runs are contained, for status.
func (p *Place) String() string {
	memory := " with memory limits"
	if p.memory == "" {
		memory = ", no memory limits"
	}
	switch p.kind {
	case "v2":
		return "control groups v2" + memory
	case "v1":
		return "control groups v1" + memory
	}
	return "sessions only: no control group was delegated, a daemon that leaves its session may be missed"
}

// Grouped reports whether runs get control groups.
func (p *Place) Grouped() bool { return p.kind != "" }

// Group contains one run.
type Group struct {
	place *Place
	dirs  []string // one in each of the place's
	seen  *session // in a place without control groups
}

// Step is one stage of ending a group: a signal for all processes, then at most Wait until none is left.
type Step struct {
	Signal syscall.Signal
	Wait   time.Duration
}

// killWait bounds the wait after SIGKILL: a process stuck in the kernel for longer does not end soon.
const killWait = 5 * time.Second

// End ends every process of the group: the steps in order, then KILL. It returns once none is left, or
// an error when some remain.
func (g *Group) End(steps ...Step) error {
	for _, s := range steps {
		if g.Empty() {
			return nil
		}
		g.Signal(s.Signal)
		if g.waitEmpty(s.Wait) {
			return nil
		}
	}
	for end := time.Now().Add(killWait); time.Now().Before(end); {
		g.kill()
		if g.waitEmpty(100 * time.Millisecond) {
			return nil
		}
	}
	return fmt.Errorf("end run: processes %v do not end after KILL", g.Processes())
}

// waitEmpty polls every millisecond at first, then less often: most commands end at once.
func (g *Group) waitEmpty(limit time.Duration) bool {
	end := time.Now().Add(limit)
	for pause := time.Millisecond; !g.Empty(); pause = min(2*pause, 25*time.Millisecond) {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		time.Sleep(min(pause, left))
	}
	return true
}

// Discard removes the group of a command that did not start. A process that the kernel does not let go of, in a call
// that does not answer, is waited for by a goroutine which ends with it: the kernel reports no such end, so it looks
// once a minute.
func (g *Group) Discard() {
	if g.Remove() == nil {
		return
	}
	go func() {
		for g.End() != nil {
			time.Sleep(time.Minute)
		}
		_ = g.Remove()
	}()
}

// Signal sends sig to every process of the group, and continues those that a terminal stopped, so that they
// receive it. Where the group can be frozen no child is missed.
func (g *Group) Signal(sig syscall.Signal) {
	thaw := g.freeze()
	for _, pid := range g.Processes() {
		syscall.Kill(pid, sig)
		if sig != syscall.SIGKILL && sig != syscall.SIGSTOP && sig != syscall.SIGTSTP {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	thaw()
}

// Empty reports whether no process is left.
func (g *Group) Empty() bool { return g.empty() }

// Processes lists the group's processes, never this one.
func (g *Group) Processes() []int {
	self := os.Getpid()
	return slices.DeleteFunc(g.processes(), func(pid int) bool { return pid == self || pid <= 1 })
}
