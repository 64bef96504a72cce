package fdconn

import (
	"net"

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
