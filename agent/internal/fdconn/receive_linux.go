package fdconn

import (
	"cmp"
	"errors"

	"golang.org/x/sys/unix"
)

// readApart reads on a thread apart, where the descriptors that come are checked. Those that pass are sent on to this
// process; the others are closed there, which may hang, with nothing else of this process.
func (c *Conn) readApart(p []byte) (n int, err error) {
	if c.Refused() != nil || !c.peer.Owner() && Closing.Of(c.peer.UID) >= MaxClosing {
		return 0, ErrFiles // a thread each at most
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ends[0])
	conn := -1
	err = Use(c.UnixConn, func(fd int) (err error) {
		conn, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	if err != nil {
		unix.Close(ends[1])
		return 0, err
	}
	type answer struct {
		n            int
		err, refused error
	}
	answers := make(chan answer, 1)
	runApart([]int{conn, ends[1]}, func(own bool) {
		var a answer
		var files []int
		if a.err = errors.New("descriptors came, and no thread can have its own"); own {
			a.n, files, a.err = receive(conn, p)
		}
		unix.Close(conn)
		if a.refused = c.check(files); a.refused == nil && a.err == nil {
			a.err = unix.Sendmsg(ends[1], []byte{0}, unix.UnixRights(files...), nil, 0)
		}
		unix.Close(ends[1])
		Closing.Add(c.peer.UID, 1)
		answers <- a
		withoutLinger(func() { closeEach(files) })
		Closing.Add(c.peer.UID, -1)
	})
	a := <-answers
	if a.refused != nil {
		c.mu.Lock()
		c.refused = a.refused
		c.mu.Unlock()
	} else if a.err == nil {
		a.err = c.keepFrom(ends[0])
	}
	return a.n, a.err
}

// keepFrom keeps the descriptors that come on a socket.
func (c *Conn) keepFrom(socket int) error {
	var oob [oobSize]byte
	_, n, flags, _, err := unix.Recvmsg(socket, make([]byte, 1), oob[:], unix.MSG_CMSG_CLOEXEC)
	err = cmp.Or(err, c.keep(oob[:max(n, 0)]))
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = unix.EMFILE
	}
	return err
}

// receive reads what is there, and the descriptors that come with it.
func receive(socket int, p []byte) (n int, files []int, err error) {
	var oob [oobSize]byte
	n, oobn, flags, _, err := unix.Recvmsg(socket, p, oob[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return 0, nil, err
	}
	files, err = parseRights(oob[:oobn])
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = ErrTooManyFiles
	}
	return n, files, err
}
