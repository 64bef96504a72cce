//go:build !linux

package session

import "golang.org/x/sys/unix"

const fionread = 0x4004667f // every BSD's

func onePage(int) {}

func lineMode(int) bool { return true }

func askTerminal(fd int) error {
	_, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	return err
}

func isDevice(int) bool { return true }
