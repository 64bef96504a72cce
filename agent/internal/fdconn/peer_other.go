//go:build !linux && !darwin

package fdconn

import (
	"errors"
	"net"
)

func peerOf(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("this system does not tell who is at the other end of a socket")
}
