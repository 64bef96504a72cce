package fdconn

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func peerOf(c *net.UnixConn) (p Peer, err error) {
	err = Use(c, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			p = Peer{UID: cred.Uid, GID: cred.Gid, PID: int(cred.Pid)}
		}
		return err
	})
	return p, err
}

// PeerLives reports whether the peer's pid is still its own, so that what was read below /proc/PID before is about it.
// A kernel before 6.5 cannot say: there it is enough that a process of the peer's user has that pid.
func (c *Conn) PeerLives() bool {
	err := Use(c, func(fd int) error {
		pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		return unix.PidfdSendSignal(pidfd, 0, nil, 0)
	})
	switch {
	case err == nil, errors.Is(err, unix.EPERM): // no right to signal it, but it is there
		return true
	case !errors.Is(err, unix.ENOPROTOOPT):
		return false
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", c.peer.PID))
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == c.peer.UID
}
