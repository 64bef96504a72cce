package launch

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Spawn starts a supervisor where systemd does not own one: in a session of
// its own, so that a Ctrl-C for the agent does not reach it, without standard
// streams, and without the agent's environment. It need not be waited for: it may
// outlive the agent, and ends by itself after a minute without agent and runs.
// ended is closed should it end before the agent does.
func Spawn(exe string, args []string) (ended <-chan struct{}, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	c := exec.Command(exe)
	c.Args = append([]string{"agent", "supervise"}, args...)
	c.Stdin, c.Stdout, c.Stderr = null, null, null
	c.Env = []string{}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with either
		defer close(done)
		c.Wait()
	}()
	return done, nil
}
