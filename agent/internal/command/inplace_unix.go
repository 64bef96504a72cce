//go:build unix

package command

import (
	"os"
	"syscall"
)

// ExecInPlace replaces this process by the command, as the same user: it needs no daemon and no privilege. It
// returns only with an error, a *StartError. Files, Cred, Terminal, Group and NoNewPrivs of spec are ignored.
func ExecInPlace(spec Spec) error {
	if err := check(spec); err != nil {
		return err
	}
	if err := enter(spec); err != nil {
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

// enter takes the umask and the directory that the command is to have.
func enter(spec Spec) error {
	umask := spec.Umask
	if umask == 0 {
		umask = 0o022
	}
	syscall.Umask(umask)
	if spec.Dir != "" {
		return os.Chdir(spec.Dir)
	}
	return nil
}
