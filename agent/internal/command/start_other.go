//go:build !linux

package command

import (
	"errors"
	"os"
	"syscall"
)

func forkExec(path string, argv []string, spec Spec) (int, error) {
	if spec.NoNewPrivs {
		return 0, errors.New("no_new_privs is only known to Linux")
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
	return syscall.ForkExec(path, argv, attr)
}

func setOOMScore(pid, adj int) {}

// CloseOnExec does nothing: other systems are for trials only.
func CloseOnExec() error { return nil }
