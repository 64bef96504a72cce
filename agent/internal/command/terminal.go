package command

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
)

// Terminal is both ends of a pseudo terminal. The master is in the runtime's poller: deadlines work and Close
// interrupts a Read. Neither Fd nor os/exec may be used on it, because they set blocking mode.
type Terminal struct {
	Master *os.File
	Slave  int // for Spec.Files, three times; close it with CloseSlave once the command has started
}

// CloseSlave closes this process's copy, so that the master reads the end once the last process has closed its own.
func (t *Terminal) CloseSlave() {
	if t.Slave >= 0 {
		unix.Close(t.Slave)
		t.Slave = -1
	}
}

// Close closes both ends.
func (t *Terminal) Close() error {
	t.CloseSlave()
	return t.Master.Close()
}

// Resize changes the size; on a change the kernel sends WINCH to the foreground.
func (t *Terminal) Resize(rows, cols uint16) error {
	err := fdconn.Use(t.Master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}
