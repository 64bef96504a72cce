package supervisor

import (
	"runtime"

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

// pipe returns the two ends of a new one, which no other child inherits.
func pipe() (r, w int, err error) {
	var fds [2]int
	err = unix.Pipe2(fds[:], unix.O_CLOEXEC)
	return fds[0], fds[1], err
}

// quietly calls f, which may hang in the kernel, on a thread that is given none of this process's signals: a signal, a
// child's end for one, would hang with it.
func quietly(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old unix.Sigset_t
	all := unix.Sigset_t{Val: [len(old.Val)]uint64{^uint64(0)}}
	for _, fault := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP} {
		all.Val[0] &^= 1 << (fault - 1)
	}
	if unix.PthreadSigmask(unix.SIG_BLOCK, &all, &old) == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	}
	f()
}
