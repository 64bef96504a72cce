// Package fdconn is a unix socket whose requests carry file descriptors and whose callers are known.
//
// The kernel decides who may connect (Listen), and whoever does is known before anything of it is read.
//
// Contract: every Read of a Conn is a recvmsg, so the connection keeps descriptors attached to any byte of
// a request until a handler calls Take; Close closes the rest. Those that Listener.Check refuses never come
// so far. The caller's uid, gid and pid come from the kernel at accept time, never from the request.
//
// Reason: a net/http server reads ahead. Its plain read loses descriptors that a client sends after its
// request, without waiting for an answer, in four cases of five. With the listener wrapped they may be
// attached to the request's first byte: one round trip fewer, no hijack, ordinary routes.
//
// A descriptor number is used only inside SyscallConn().Control: (*os.File).Fd would switch the shared
// open description to blocking mode, and that description also belongs to the client's shell.
package fdconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// MaxFiles is the largest number of descriptors a connection holds at once: three for standard streams,
// one for a connection handed over, and as many again for a later protocol.
const MaxFiles = 8

// ErrTooManyFiles reports that a peer sent more descriptors than MaxFiles; the connection is of no more use.
var ErrTooManyFiles = fmt.Errorf("more than %d file descriptors were sent", MaxFiles)

// Peer is the process at the other end, as the kernel recorded it when the connection was made.
type Peer struct {
	UID, GID uint32
	PID      int // 0 where the system does not say; may be dead or reused, so only for messages
}

// Conn is an accepted or dialled connection. Read and Take may be called by different goroutines.
type Conn struct {
	*net.UnixConn
	peer  Peer
	alone bool              // as Listener.Alone
	bytes bool              // no descriptors are taken
	check func([]int) error // as Listener.Check

	mu      sync.Mutex
	files   []int
	refused error // by check
	closed  bool
	onClose func()
}

// NewConn wraps c and gets its peer from the kernel. It takes ownership of c, on error too.
func NewConn(c *net.UnixConn) (*Conn, error) {
	peer, err := peerOf(c)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("ask the kernel who is calling: %w", err)
	}
	// A peek skips a byte out of band, and a read drops it with its descriptors, closing them on this thread.
	_ = Use(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	return &Conn{UnixConn: c, peer: peer}, nil
}

// Stranger reports that a listener is neither root's nor this user's.
type Stranger struct {
	Path string
	UID  uint32
}

func (e *Stranger) Error() string {
	return fmt.Sprintf("somebody else (user %d) answers at %s", e.UID, e.Path)
}

// Dial connects to the listener at path. One that neither root nor this user runs is refused with *Stranger
// before a byte is sent: whoever can make a file at path could read what a request carries. One that was killed, and
// whose socket is still there since something of it hangs in the kernel, listens no more.
func Dial(ctx context.Context, path string) (*Conn, error) {
	c, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	if !c.peer.Owner() {
		c.Close()
		return nil, &Stranger{path, c.peer.UID}
	}
	if dying(c.peer.PID) {
		c.Close()
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"},
			Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
	}
	return c, nil
}

// busy is how long a dial goes on while more callers wait than the listener's queue holds.
const busy = 2 * time.Second

func dial(ctx context.Context, path string) (*Conn, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	var d net.Dialer
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return NewConn(c.(*net.UnixConn))
		}
		if !errors.Is(err, unix.EAGAIN) || ctx.Err() != nil || time.Since(began) > busy {
			return nil, err
		}
	}
}

// Peer returns the process at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Owner reports whether p is root or this process's own user.
func (p Peer) Owner() bool { return p.UID == 0 || int(p.UID) == os.Geteuid() }

// OnClose has f called once the connection has been closed, with all that was in flight on it. It is called before the
// connection is shared.
func (c *Conn) OnClose(f func()) { c.onClose = f }

// BytesOnly has Read end with ErrFiles where descriptors come. It is called before the connection is shared.
func (c *Conn) BytesOnly() { c.bytes = true }

// Read reads bytes and keeps the descriptors that came with them. Where they are checked, they have a number in this
// process only afterwards: closing one could hang for as long as the peer likes (a file of a file system in user space,
// which is asked at the close of each copy), and a thread that hangs keeps what its process has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.alone || c.bytes || c.check != nil || !c.peer.Owner() {
		n, err := c.readBytes(p)
		if err == ErrFiles && c.check != nil {
			return c.readApart(p)
		}
		return n, err
	}
	var oob [oobSize]byte // on the stack: an idle connection needs no buffer
	n, oobn, flags, _, err := c.ReadMsgUnix(p, oob[:])
	n, oobn = max(n, 0), max(oobn, 0) // -1 with an error, which io.Reader does not allow
	if oobn > 0 {
		if kerr := c.keep(oob[:oobn]); err == nil {
			err = kerr
		}
	}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = ErrTooManyFiles
	}
	if n == 0 && err == nil {
		err = io.EOF // ReadMsgUnix does not say so itself
	}
	return n, err
}

// ErrFiles reports that descriptors came where none are taken.
var ErrFiles = errors.New("file descriptors were sent, and none are taken here")

// readBytes reads no byte with which descriptors come: one that is never received is freed with the connection, without
// asking its file system, which closing it would.
func (c *Conn) readBytes(p []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		var flags int
		n, _, flags, _, rerr = unix.Recvmsg(int(fd), p, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case rerr == nil && flags&unix.MSG_CTRUNC != 0:
			n, rerr = 0, ErrFiles
		case rerr == nil && n > 0:
			n, _, rerr = unix.Recvfrom(int(fd), p[:n], unix.MSG_DONTWAIT)
		}
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err = cmp.Or(err, rerr); err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

var oobSpace = unix.CmsgSpace(MaxFiles * 4)

// oobSize holds MaxFiles descriptors: 16 bytes of header at most, padded. TestOobSize compares it with
// the system's own arithmetic, which is not a constant expression.
const oobSize = 16 + MaxFiles*4

func (c *Conn) keep(oob []byte) error {
	files, err := parseRights(oob)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = append(c.files, files...)
	if err == nil && len(c.files) > MaxFiles {
		err = ErrTooManyFiles
	}
	if err != nil || c.closed {
		CloseAll(c.peer.UID, c.files)
		c.files = nil
	}
	return err
}

func parseRights(oob []byte) (files []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	for i := range msgs {
		if len(msgs[i].Data)%4 != 0 { // the kernel sends whole descriptors; ParseUnixRights panics on a part of one
			continue
		}
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			files = append(files, got...)
		}
	}
	return files, nil
}

// Take returns the descriptors received so far, in the order they were sent, and hands over their
// ownership: the caller closes them. They are close-on-exec.
func (c *Conn) Take() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := c.files
	c.files = nil
	return files
}

// Refused is why descriptors that came are not there.
func (c *Conn) Refused() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// Close closes the connection and every descriptor still with it. Unless it is alone it does not shut the connection
// down: another process's copy of it goes on working.
func (c *Conn) Close() (err error) {
	c.mu.Lock()
	files, first := c.files, !c.closed
	c.files, c.closed = nil, true
	c.mu.Unlock()
	if first && len(files) == 0 && c.alone && drained(c.UnixConn) {
		err = c.UnixConn.Close()
		if c.onClose != nil {
			c.onClose()
		}
		return err
	}
	if first && !c.peer.Owner() { // descriptors that were not read close with the last copy of it
		_ = Use(c.UnixConn, func(fd int) error {
			if fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
				files = append(files, fd)
			}
			return nil
		})
	}
	withoutLinger(func() { err = c.UnixConn.Close() })
	closeAll(c.peer.UID, files, func() {
		if first && c.onClose != nil {
			c.onClose()
		}
	})
	return err
}

// AwaitBytes waits until there is something to read, and reads nothing.
func (c *Conn) AwaitBytes(limit time.Duration) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(limit))
	var b [1]byte
	return raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	})
}

// Send writes all of b, which must not be empty, to c with files attached to its first byte. The caller
// keeps the files.
func Send(c *net.UnixConn, b []byte, files ...int) error {
	if len(files) == 0 {
		_, err := c.Write(b)
		return err
	}
	if len(b) == 0 {
		return errors.New("send file descriptors: they need at least one byte to ride on")
	}
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(files...), nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

type contextKey struct{}

// ConnContext is for http.Server.ConnContext: it lets handlers find the connection with FromContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if fc, ok := c.(*Conn); ok {
		return context.WithValue(ctx, contextKey{}, fc)
	}
	return ctx
}

// FromContext returns the connection that a request came on, if its server uses ConnContext.
func FromContext(ctx context.Context) (*Conn, bool) {
	c, ok := ctx.Value(contextKey{}).(*Conn)
	return c, ok
}
