package fdconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/strictpath"
)

// InUse reports that another process answers at the socket, or holds its lock.
type InUse struct {
	Path string
	PID  int // 0 when unknown
}

func (e *InUse) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("socket %q is in use by another process", e.Path)
	}
	return fmt.Sprintf("socket %q is in use by process %d", e.Path, e.PID)
}

// ErrNoACL reports that a socket lets everybody connect, because its file system keeps no ACLs.
var ErrNoACL = errors.New("its file system keeps no ACLs, so everybody may connect")

// Listener accepts Conns.
type Listener struct {
	*net.UnixListener

	// Admit, where it is set, decides about each connection before anything is read from it: who is refused is closed.
	Admit func(Peer) bool

	// Alone says that connections are handed to no other process, and that no descriptors are taken from them. Closing
	// one with which none came costs no thread then, which would be most of what a flood of them costs.
	Alone bool

	// Check decides about descriptors that come, which it does not close. It is called on a thread apart; its error is
	// what Conn.Refused returns. Where it is not set, they are taken from this user and root only.
	Check func(files []int) error

	path string
	own  fs.FileInfo // the socket as it was made
	lock *os.File    // with a flock, until Close

	mu    sync.Mutex
	users []uint32 // who may connect
	shut  []uint32 // who of them may not, for now

	once sync.Once
	err  error
}

// Listen makes a socket at path to which this user, root and users may connect: the kernel refuses everybody else. A
// socket that another process serves is refused with *InUse; a dead process's is replaced. A lock on path+".lock"
// decides between two processes that start at once. The kernel releases it when the process exits. The file stays: if
// it were removed, two processes could each hold a lock on a file of that name.
//
// The socket is made under another name, opened to users and then renamed, so that at path it never has other rights.
// What AllowUsers returns for them is to be asked from it.
//
// A directory that another than root or this user can replace, or in which he may rename files, is refused: whoever
// owns the name would own the callers.
//
// Accepted race: a program that does not take the lock may bind between our check and our rename, and loses its socket.
func Listen(path string, users []uint32) (*Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := strictpath.Check(filepath.Dir(path), true); err != nil {
		return nil, fmt.Errorf("listen at %q: %w", path, err)
	}
	findRuntimeFiles() // before anybody can hand in a descriptor that looks like them
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l := &Listener{path: path, lock: lock, users: slices.Clone(users)}
	if err := l.bind(users); err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

// AllowUsers lets this user, root and users connect from now on, and nobody else. Where that cannot be, it is ErrNoACL
// and everybody can.
func (l *Listener) AllowUsers(users []uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users = slices.Clone(users)
	return l.admit()
}

// Shut keeps one of the users from connecting, whatever AllowUsers says, until it is called with false.
func (l *Listener) Shut(uid uint32, shut bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = slices.DeleteFunc(l.shut, func(u uint32) bool { return u == uid })
	if shut {
		l.shut = append(l.shut, uid)
	}
	return l.admit()
}

func (l *Listener) admit() error {
	open := slices.DeleteFunc(slices.Clone(l.users), func(uid uint32) bool { return slices.Contains(l.shut, uid) })
	return allowUsers(l.path, open)
}

func allowUsers(path string, users []uint32) error {
	if len(users) == 0 {
		return os.Chmod(path, 0o600) // which also shuts out those of an ACL
	}
	err := setACL(path, users)
	if errors.Is(err, errors.ErrUnsupported) {
		return cmp.Or(os.Chmod(path, 0o666), ErrNoACL)
	}
	return err
}

// making is what a socket's name ends with while it is made.
const making = "~"

// CheckPath reports a path that is too long for a socket: the system takes about a hundred bytes.
func CheckPath(path string) error {
	if n := len(unix.RawSockaddrUnix{}.Path) - 1 - len(making); len(path) > n {
		return fmt.Errorf("the socket's path %q has %d bytes, and the system takes %d: choose a shorter one (--socket)",
			path, len(path), n)
	}
	return nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock socket %q: %w", path, err)
	}
	err = Use(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &InUse{Path: path, PID: holder(path, f)}
		}
		return nil, fmt.Errorf("lock socket %q: %w", path, err)
	}
	f = Early(f)
	f.Truncate(0) // the pid is only for messages: a full disk must not prevent a start
	f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return f, nil
}

// holder names the process that serves path: the one that answers, else the one that wrote the lock.
func holder(path string, lock *os.File) int {
	if pid, err := answers(path); err == nil && pid > 0 {
		return pid
	}
	b, _ := io.ReadAll(io.LimitReader(lock, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// answers dials path and returns the pid of the process that listens there.
func answers(path string) (pid int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := Dial(ctx, path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.Peer().PID, nil
}

func (l *Listener) bind(users []uint32) error {
	if err := checkStale(l.path); err != nil {
		return err
	}
	made := l.path + making
	if info, err := os.Lstat(made); err == nil && info.Mode()&fs.ModeSocket != 0 {
		os.Remove(made) // of a process that was killed here
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = setPrivate(int(fd)) })
		return cmp.Or(err, failed)
	}}
	listener, err := config.Listen(context.Background(), "unix", made)
	if err != nil {
		return fmt.Errorf("listen at %q: %w", l.path, err)
	}
	l.UnixListener = listener.(*net.UnixListener)
	if err := l.publish(made, users); err != nil {
		l.UnixListener.Close()
		return fmt.Errorf("listen at %q: %w", l.path, err)
	}
	return nil
}

func (l *Listener) publish(made string, users []uint32) (err error) {
	if err = os.Chmod(made, 0o600); err != nil { // where setPrivate does nothing, and against an odd umask
		return err
	}
	_ = allowUsers(made, users) // else it stays closed, or is open to all: AllowUsers reports which
	if l.own, err = os.Lstat(made); err != nil {
		return err
	}
	if err := os.Rename(made, l.path); err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // the name is another now
	return nil
}

// checkStale returns nil where there is nothing at path, or a socket that no process serves.
func checkStale(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket %q: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("listen at %q: a file that is no socket is in the way", path)
	}
	pid, err := answers(path)
	if _, stranger := errors.AsType[*Stranger](err); stranger {
		return err
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return &InUse{Path: path, PID: pid} // an unclear answer means that it is in use
	}
	return nil
}

// Addr is where clients find the socket.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Accept waits for the next connection, a *Conn. It drops one whose peer cannot be determined, or is not admitted.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		fc, err := NewConn(c)
		if err != nil {
			continue
		}
		fc.alone, fc.check = l.Alone, l.Check
		if l.Admit == nil || l.Admit(fc.peer) {
			return fc, nil
		}
		fc.Close()
	}
}

// Close removes the socket, if it is still the one that was made, stops listening and releases the lock, in that order.
// It may be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
			os.Remove(l.path)
		}
		l.err = l.UnixListener.Close()
		l.lock.Close()
	})
	return l.err
}
