package collectors

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// diagConn is a connection to the kernel's socket diagnostics. It needs no capability; a unit must leave AF_NETLINK
// among its address families. The zero value opens itself when first asked.
type diagConn struct {
	fd   int
	open bool
	buf  []byte
	inet [inetRequest]byte
	unix [unixRequest]byte
	sock diagSocket // the one being read

	unusable error // tests: as if the kernel had said so
}

// tcp hands the TCP sockets of port in these states to each: one request for
// each family, since the kernel takes no "any".
func (c *diagConn) tcp(families []uint8, port uint16, states uint32, each func(*diagSocket)) error {
	for _, family := range families {
		putInetRequest(&c.inet, family, port, states)
		err := c.ask(c.inet[:], each)
		if family == familyInet6 && err != nil && isNoFamily(err) {
			return nil // a host without IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unixSockets hands every UNIX socket in these states to each.
func (c *diagConn) unixSockets(states uint32, each func(*diagSocket)) error {
	putUnixRequest(&c.unix, states)
	return c.ask(c.unix[:], each)
}

func (c *diagConn) ask(request []byte, each func(*diagSocket)) error {
	if err := c.dial(); err != nil {
		return err
	}
	err := c.roundTrip(request, each)
	if err != nil {
		c.close() // whatever is left of the reply goes with it
	}
	return err
}

func (c *diagConn) dial() error {
	if c.open || c.unusable != nil {
		return c.unusable
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("open sock_diag: %w", err)
	}
	// The kernel answers at once; the limit is for the day it does not.
	limit := unix.Timeval{Sec: 1}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(fd)
		return fmt.Errorf("open sock_diag: %w", err)
	}
	if c.buf == nil {
		c.buf = make([]byte, 32<<10) // what the kernel puts into one reply at most
	}
	c.fd, c.open = fd, true
	return nil
}

func (c *diagConn) roundTrip(request []byte, each func(*diagSocket)) error {
	if _, err := unix.Write(c.fd, request); err != nil {
		return fmt.Errorf("ask sock_diag: %w", err)
	}
	for {
		n, err := unix.Read(c.fd, c.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read sock_diag: %w", err)
		}
		if done, err := parseDiag(c.buf[:n], &c.sock, each); done || err != nil {
			return err
		}
	}
}

func (c *diagConn) close() {
	if c.open {
		unix.Close(c.fd)
		c.open = false
	}
}
