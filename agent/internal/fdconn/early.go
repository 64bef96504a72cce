package fdconn

import (
	"os"

	"golang.org/x/sys/unix"
)

// earlyFrom is above the numbers of other descriptors, and small enough for their table.
const earlyFrom = 900

// Early gives f a number that the kernel closes before the others of a process that is killed: it closes the last first
// (task_work_add), and hangs at one that a process of the application holds up. So a lock ends before it.
func Early(f *os.File) *os.File {
	early := f
	_ = Use(f, func(fd int) error {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, earlyFrom)
		if err == nil {
			early = os.NewFile(uintptr(n), f.Name())
		}
		return err
	})
	if early != f {
		f.Close()
	}
	return early
}
