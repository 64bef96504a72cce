package fdconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// Listener accepts Conns.
type Listener struct {
	*net.UnixListener
	lock *os.File // with a flock, until Close

	once sync.Once
	err  error
}

// Listen makes a socket at path with the given mode. A socket that another process serves is refused with
// *InUse; a dead process's is replaced. A lock on path+".lock" decides between two processes that start at
// once. The kernel releases it when the process exits. The file stays: if it were removed, two processes
// could each hold a lock on a file of that name.
//
// A directory in which another than root or this user may rename files is refused: whoever owns the name would
// own the callers.
//
// Accepted races: a program that does not take the lock may bind between our check and our removal, and
// loses its socket. Between bind and chmod the socket has the process's umask: with the usual 022 only the
// owner can connect meanwhile.
func Listen(path string, mode fs.FileMode) (*Listener, error) {
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path, mode)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Listener{UnixListener: l, lock: lock}, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the socket's directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("listen in %q: user %d owns the directory and may rename what is in it", dir, st.Uid)
	}
	m := info.Mode()
	if m&fs.ModeSticky != 0 {
		return nil
	}
	if ok && m.Perm()&0o020 != 0 && st.Gid != 0 && int(st.Gid) != os.Getegid() {
		return fmt.Errorf("listen in %q: group %d may replace files there (mode %v); chmod g-w %s",
			dir, st.Gid, m.Perm(), dir)
	}
	if m.Perm()&0o002 != 0 {
		return fmt.Errorf("listen in %q: anybody may replace files there (mode %v); chmod o-w %s", dir, m.Perm(), dir)
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

func bind(path string, mode fs.FileMode) (*net.UnixListener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at socket %q: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("listen at %q: a file that is no socket is in the way", path)
	default:
		pid, err := answers(path)
		if _, stranger := errors.AsType[*Stranger](err); stranger {
			return nil, err
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return nil, &InUse{Path: path, PID: pid} // an unclear answer means that it is in use
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove stale socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at %q: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, fmt.Errorf("set mode of socket: %w", err)
	}
	return l, nil
}

// Accept waits for the next connection, a *Conn. It drops one whose peer cannot be determined.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if fc, err := NewConn(c); err == nil {
			return fc, nil
		}
	}
}

// Close stops listening, removes the socket and releases the lock, in that order. It may be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.err = l.UnixListener.Close()
		l.lock.Close()
	})
	return l.err
}
