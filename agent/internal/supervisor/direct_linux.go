package supervisor

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
)

// StopsAtCtrlZ reports whether Ctrl-Z in the command's terminal is meant to stop it. The kernel does not: nobody of the
// command's session could continue it, so its client does. The key is the program's where it reads keys itself, has
// given the terminal to another process group, as a shell does, or handles SIGTSTP.
func (d *direct) StopsAtCtrlZ() bool {
	t, ok := d.io.(*terminal)
	if !ok {
		return false
	}
	mine := false
	_ = fdconn.Use(t.pty.Master, func(fd int) error {
		mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		mine = err == nil && group == d.proc.PID && mode.Lflag&unix.ISIG != 0
		return err
	})
	return mine && !handles(d.proc.PID, unix.SIGTSTP)
}

// handles reports whether a process catches or ignores a signal.
func handles(pid int, sig unix.Signal) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		name, mask, _ := strings.Cut(line, ":")
		if bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil &&
			(name == "SigIgn" || name == "SigCgt") && bits>>(sig-1)&1 == 1 {
			return true
		}
	}
	return false
}
