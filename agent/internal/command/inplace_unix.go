//go:build unix

package command

import (
	"fmt"
	"os"
	"syscall"
)

// ExecInPlace becomes the command: for the night on which the agent itself is broken. It needs no
// daemon, and root only where Cred is another user. It returns only with an error, a *StartError.
// Files, Terminal, Group and NoNewPrivs of spec are not looked at.
func ExecInPlace(spec Spec) error {
	if err := check(spec); err != nil {
		return err
	}
	if err := become(spec); err != nil {
		return &StartError{spec.Args[0], CodeRefused, err}
	}
	candidates, denied := lookup(spec)
	env := spec.Env
	if env == nil {
		env = []string{}
	}
	for _, path := range candidates {
		err := syscall.Exec(path, spec.Args, env)
		if err == syscall.ENOEXEC {
			err = syscall.Exec("/bin/sh", append([]string{"/bin/sh", path}, spec.Args[1:]...), env)
		}
		if err != syscall.EACCES {
			return explain(spec, path, err)
		}
		denied = err
	}
	if denied != nil {
		return explain(spec, spec.Args[0], denied)
	}
	return &StartError{spec.Args[0], CodeNotFound, errNotFound}
}

// become drops to the user, groups first: the other way round the right to change them is gone.
func become(spec Spec) error {
	umask := spec.Umask
	if umask == 0 {
		umask = 0o022
	}
	syscall.Umask(umask)
	if c := spec.Cred; c != nil && int(c.UID) != os.Geteuid() {
		groups := make([]int, len(c.Groups))
		for i, g := range c.Groups {
			groups[i] = int(g)
		}
		if err := syscall.Setgroups(groups); err != nil {
			return fmt.Errorf("set groups: %w", err)
		}
		if err := syscall.Setgid(int(c.GID)); err != nil {
			return fmt.Errorf("set group %d: %w", c.GID, err)
		}
		if err := syscall.Setuid(int(c.UID)); err != nil {
			return fmt.Errorf("become user %d: %w", c.UID, err)
		}
	}
	if spec.Dir != "" { // after the user: it must be able to go there
		return os.Chdir(spec.Dir)
	}
	return nil
}
