package command

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTerminal makes a pseudo terminal of a size in characters, owned by uid: a program may open /dev/stdout or its
// tty's name again, and the kernel then checks the device's owner.
func OpenTerminal(rows, cols uint16, uid uint32) (*Terminal, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	slave, err := openSlave(master, rows, cols, uid)
	if err != nil {
		unix.Close(master)
		return nil, err
	}
	return &Terminal{Master: os.NewFile(uintptr(master), "/dev/ptmx"), Slave: slave}, nil
}

func openSlave(master int, rows, cols uint16, uid uint32) (slave int, err error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("unlock terminal: %w", err)
	}
	// From the master, not by name (kernel 4.13): correct in any mount namespace.
	slave, err = ptpeer(master)
	if err != nil {
		return -1, fmt.Errorf("open terminal: %w", err)
	}
	if err = SetSize(slave, rows, cols); err == nil {
		err = setUTF8(slave)
	}
	if err == nil && uint32(os.Geteuid()) != uid { // last: from here on its user can open it, and hold up what is set
		err = unix.Fchown(slave, int(uid), -1)
	}
	if err != nil {
		unix.Close(slave)
		return -1, fmt.Errorf("prepare terminal: %w", err)
	}
	return slave, nil
}

func ptpeer(master int) (int, error) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, flags)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// setUTF8 makes the line editor erase whole characters.
func setUTF8(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag |= unix.IUTF8
	return unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
