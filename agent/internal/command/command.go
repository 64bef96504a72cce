// Package command starts one command as the application would, and ends its whole process tree.
//
// Contract: a command gets exactly the argv, environment, directory, user, groups and umask of its Spec,
// the three descriptors it names, and nothing else of the parent's. It is created in its own session and,
// where there are control groups, in its own group, not moved there later.
//
// Reason: syscall.ForkExec is used rather than os/exec, because os/exec takes *os.File and calls Fd on
// it, which switches a descriptor that the client's shell shares to blocking mode; and because one
// Reaper for all children needs no thread for each, as os.Process.Wait does.
package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// Exit codes that the agent sets, from coreutils' timeout.
const (
	CodeTimeout  = 124 // its time limit ended it
	CodeRefused  = 125 // the agent failed or refused
	CodeNotExec  = 126 // found, cannot be executed
	CodeNotFound = 127 // not found
)

// Spec says what to start. It is not kept after Start.
type Spec struct {
	Args  []string // required: argv; Args[0] is looked up in Env's PATH
	Env   []string // the whole environment, NAME=value
	Files [3]int   // required: descriptors that become 0, 1 and 2; they stay the caller's

	Dir         string      // absolute; empty: the parent's
	Cred        *Credential // nil: as this process
	Umask       int         // 0: 022; NoUmask: 0
	Terminal    bool        // Files[0] is a terminal and becomes the controlling one
	Group       *Group      // where it is created; nil: a session of its own only
	NoNewPrivs  bool        // setuid programs give it no privilege
	OOMScoreAdj int         // -1000 … 1000; lower than the parent's needs CAP_SYS_RESOURCE
}

// NoUmask is a Spec's Umask that removes no permission: the kernel uses the low nine bits.
const NoUmask = 0o1000

// Credential is the user and groups of a command.
type Credential struct {
	UID, GID uint32
	Groups   []uint32 // all supplementary groups
}

// Shell returns the argv of a shell that runs line.
func Shell(line string) []string { return []string{"/bin/sh", "-c", line} }

// Status is how a command ended. A code other than 0 is a Status, not an error.
type Status struct {
	Code       int            // 0 … 255 as the command chose it; 128+Signal when a signal ended it
	Signal     syscall.Signal // 0: it ended by itself
	OOM        bool           // the kernel killed one of its processes for memory
	PeakMemory uint64         // bytes; of the group where known, else of the largest process; 0: not known
	CPU        time.Duration  // user and system, of the command and the children it waited for
}

// StartError reports that a command could not be started; Code is what a shell would exit with.
type StartError struct {
	Name string
	Code int // CodeRefused, CodeNotExec or CodeNotFound
	Err  error
}

func (e *StartError) Error() string { return fmt.Sprintf("run %q: %v", e.Name, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

var (
	errNotFound    = errors.New("command not found")
	errNotExec     = errors.New("permission denied")
	errIsDir       = errors.New("is a directory")
	errInterpreter = errors.New("its interpreter does not exist")
)

// Process is a command that was started.
type Process struct {
	PID   int
	Begun uint64 // start time in clock ticks since boot, for a PID may be reused; 0: not known

	done   chan struct{}
	status Status // written before done is closed
}

// Done is closed when the command itself has ended; its child processes may still run.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the command ended. It is valid once Done is closed.
func (p *Process) Status() Status { return p.status }

// Start starts a command for r to collect. An error is a *StartError.
func Start(spec Spec, r *Reaper) (*Process, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	candidates, denied := lookup(spec)
	for _, path := range candidates {
		p, err := r.adopt(func() (int, error) { return forkExec(path, spec.Args, spec) })
		if errors.Is(err, syscall.ENOEXEC) { // a script without #!: execvp(3) hands it to the shell
			argv := append([]string{"/bin/sh", path}, spec.Args[1:]...)
			p, err = r.adopt(func() (int, error) { return forkExec("/bin/sh", argv, spec) })
		}
		switch {
		case err == nil:
			setOOMScore(p.PID, spec.OOMScoreAdj)
			return p, nil
		case errors.Is(err, syscall.EACCES): // like execvp, try the next one
			denied = err
		default:
			return nil, explain(spec, path, err)
		}
	}
	if denied != nil {
		return nil, explain(spec, spec.Args[0], denied)
	}
	return nil, &StartError{spec.Args[0], CodeNotFound, errNotFound}
}

func check(spec Spec) error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return &StartError{"", CodeRefused, errors.New("no command given")}
	}
	for _, s := range [][]string{spec.Args, spec.Env, {spec.Dir}} {
		for i := range s {
			if strings.IndexByte(s[i], 0) >= 0 {
				return &StartError{spec.Args[0], CodeRefused, errors.New("a zero byte cannot be passed to a command")}
			}
		}
	}
	if spec.Dir == "" {
		return nil
	}
	if info, err := os.Stat(spec.Dir); err != nil {
		return &StartError{spec.Args[0], CodeRefused, fmt.Errorf("enter directory: %w", err)}
	} else if !info.IsDir() {
		return &StartError{spec.Args[0], CodeRefused, fmt.Errorf("enter directory: %q is not a directory", spec.Dir)}
	}
	return nil
}

// explain turns the kernel's error into one that an operator can act on. Chdir and exec share one error,
// so the file is examined again; a change in between only makes the message less exact.
func explain(spec Spec, path string, err error) *StartError {
	e := &StartError{spec.Args[0], CodeRefused, err}
	info, serr := os.Stat(absolute(spec.Dir, path))
	switch {
	case errors.Is(err, syscall.ENOENT) && errors.Is(serr, fs.ErrNotExist):
		e.Code, e.Err = CodeNotFound, errNotFound
	case errors.Is(err, syscall.ENOTDIR) && serr != nil:
		e.Code, e.Err = CodeNotFound, errNotFound
	case errors.Is(err, syscall.ENOENT):
		e.Code, e.Err = CodeNotExec, errInterpreter
	case serr == nil && info.IsDir():
		e.Code, e.Err = CodeNotExec, errIsDir
	case errors.Is(err, syscall.EACCES), errors.Is(err, errNotExec):
		e.Code, e.Err = CodeNotExec, errNotExec
	case errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.ETXTBSY), errors.Is(err, syscall.ELOOP),
		errors.Is(err, syscall.EINVAL):
		e.Code = CodeNotExec
	}
	return e
}
