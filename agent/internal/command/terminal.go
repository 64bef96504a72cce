package command

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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

// SetSize changes the size of a terminal, in characters; on a change the kernel sends WINCH to the foreground. It can
// hang for as long as a process likes that has the terminal and asks for its size.
func SetSize(fd int, rows, cols uint16) error {
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		return fmt.Errorf("set size of terminal: %w", err)
	}
	return nil
}
