package platform

import (
	"os/exec"
	"syscall"
)

// killTree makes cmd the leader of a process group, and its end the group's end.
func killTree(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
