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
)

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
