// Package command starts one command as the application would, and ends its whole process tree.
//
// Contract: a command gets exactly the argv, environment, directory, user, groups and umask of its Spec,
// the three descriptors it names, and nothing else of the parent's. It is created in its own session and,
// where there are control groups, in its own group, not moved there later. Everything that its user could delay or
// look at (the directory, the search of PATH, the program) is touched by the new process alone, as that user: Start
// takes ten seconds at most, and waits for no other.
//
// Reason: os/exec takes *os.File and calls Fd on it, which switches a descriptor that the client's shell shares to
// blocking mode; one Reaper for all children needs no thread for each, as os.Process.Wait does; and both os/exec and
// syscall.ForkExec are vfork, in which this process waits for the new one (see child).
package command

import (
	"errors"
	"strings"
	"syscall"
)

// Start starts a command for r to collect. An error is a *StartError.
func Start(spec Spec, r *Reaper) (*Process, error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	return start(spec, r)
}

func check(spec Spec) error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return refused(spec, errors.New("no command given"))
	}
	for _, s := range [][]string{spec.Args, spec.Env, {spec.Dir}} {
		for i := range s {
			if strings.IndexByte(s[i], 0) >= 0 {
				return refused(spec, errors.New("a zero byte cannot be passed to a command"))
			}
		}
	}
	return nil
}

func refused(spec Spec, err error) *StartError {
	e := &StartError{Code: CodeRefused, Err: err}
	if len(spec.Args) > 0 {
		e.Name = spec.Args[0]
	}
	return e
}

// found is what is at a path that was tried.
type found int

const (
	nothing found = iota // or nothing that this user may see
	aFile
	aDirectory
)

// explain turns the kernel's error into one that an operator can act on. What is at the path was looked at just
// before: a change in between only makes the message less exact.
func explain(spec Spec, at found, err syscall.Errno) *StartError {
	e := refused(spec, err)
	switch {
	case at == nothing && (err == syscall.ENOENT || err == syscall.ENOTDIR):
		e.Code, e.Err = CodeNotFound, errNotFound
	case err == syscall.ENOENT:
		e.Code, e.Err = CodeNotExec, errInterpreter
	case at == aDirectory:
		e.Code, e.Err = CodeNotExec, errIsDir
	case err == syscall.EACCES:
		e.Code, e.Err = CodeNotExec, errNotExec
	case err == syscall.E2BIG, err == syscall.ETXTBSY, err == syscall.ELOOP, err == syscall.EINVAL:
		e.Code = CodeNotExec
	}
	return e
}
