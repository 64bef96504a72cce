package fdconn

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// Now writes to a socket of ours only what it has room for, and never waits: a client that reads nothing delays no
// run. A Write of which not all was taken is an error, and the connection is of no more use.
type Now struct{ Socket syscall.Conn }

func (w Now) Write(b []byte) (n int, err error) {
	err = Use(w.Socket, func(fd int) (err error) { // net has made it non-blocking
		n, err = unix.Write(fd, b)
		return err
	})
	if n = max(n, 0); err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}
