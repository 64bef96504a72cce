package command

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Size is a terminal's size in characters.
type Size struct {
	Rows uint16 `json:"rows,omitzero"`
	Cols uint16 `json:"cols,omitzero"`
}

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
func (t *Terminal) Resize(s Size) error {
	return t.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	})
}

func (t *Terminal) control(f func(fd int) error) error {
	raw, err := t.Master.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	if ferr != nil {
		return fmt.Errorf("control terminal: %w", ferr)
	}
	return nil
}
