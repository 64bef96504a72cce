package session

import "golang.org/x/sys/unix"

const fionread = unix.TIOCINQ

// onePage makes a pipe so small that it is writable only when it is empty.
func onePage(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, unix.Getpagesize()) }

// lineMode reports whether a terminal edits lines and echoes what is typed.
func lineMode(fd int) bool {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err != nil || t.Lflag&unix.ICANON != 0 && t.Lflag&unix.ECHO != 0
}

// askTerminal returns nil for a terminal and EIO for one that has hung up. The kernel answers TIOCGDEV without a lock.
func askTerminal(fd int) error {
	_, err := unix.IoctlGetUint32(fd, unix.TIOCGDEV)
	return err
}

func isDevice(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	return err != nil || st.Mode&unix.S_IFMT == unix.S_IFCHR
}
