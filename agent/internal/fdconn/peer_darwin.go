package fdconn

import (
	"net"

	"golang.org/x/sys/unix"
)

func peerOf(c *net.UnixConn) (p Peer, err error) {
	err = Use(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return err
		}
		p.UID = cred.Uid
		if cred.Ngroups > 0 {
			p.GID = cred.Groups[0]
		}
		p.PID, _ = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return nil
	})
	return p, err
}

// PeerLives reports whether the peer's pid is still its own, which this system does not say.
func (c *Conn) PeerLives() bool { return false }
