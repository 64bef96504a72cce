//go:build !linux

package supervisor

import (
	"errors"

	"golang.org/x/sys/unix"
)

func punch(fd int, from, to int64) error { return errors.ErrUnsupported }

func pipe(uint32) (r, w int, err error) {
	var fds [2]int
	err = unix.Pipe(fds[:])
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
		err = unix.SetNonblock(fds[0], true)
	}
	return fds[0], fds[1], err
}
