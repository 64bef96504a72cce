package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// blockSize is what file systems give back in; a smaller remainder would only be zeroed.
const blockSize = 4096

// punch gives the blocks of fd between from and to back, whole ones only.
func punch(fd int, from, to int64) error {
	from, to = (from+blockSize-1)&^(blockSize-1), to&^(blockSize-1)
	if to <= from {
		return nil
	}
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
}

// pipe returns the two ends of a new one, which no other child inherits. We do not wait in reading it; the user of the
// run may open it by name (/dev/stdout).
func pipe(uid uint32) (r, w int, err error) {
	var fds [2]int
	err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fds[0], true) // the command's end is a description of its own and stays as it is
	}
	if err == nil && os.Geteuid() == 0 {
		err = unix.Fchown(fds[1], int(uid), -1)
	}
	return fds[0], fds[1], err
}
