//go:build unix

package command

import (
	"fmt"
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
		return refused(spec, err)
	}
	env := spec.Env
	if env == nil {
		env = []string{}
	}
	return try(spec, func(path string, argv []string) error { return syscall.Exec(path, argv, env) })
}

// enter takes the umask and the directory that the command is to have.
func enter(spec Spec) error {
	umask := spec.Umask
	if umask == 0 {
		umask = 0o022
	}
	syscall.Umask(umask)
	if spec.Dir != "" {
		if err := os.Chdir(spec.Dir); err != nil {
			return fmt.Errorf("enter directory: %w", err)
		}
	}
	return nil
}
