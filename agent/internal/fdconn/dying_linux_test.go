package fdconn

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that was killed and not waited for is one; nobody else is.
func TestWhoIsDying(t *testing.T) {
	if dying(os.Getpid()) || dying(1<<22+1) {
		t.Error("this process is, or none")
	}
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	if dying(c.Process.Pid) {
		t.Error("it is alive")
	}
	c.Process.Kill()
	var info unix.Siginfo
	for err := error(unix.EINTR); errors.Is(err, unix.EINTR); {
		err = unix.Waitid(unix.P_PID, c.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
	}
	if !dying(c.Process.Pid) {
		t.Error("it is dead")
	}
}
