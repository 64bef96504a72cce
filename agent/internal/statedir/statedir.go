// Package statedir keeps a directory of state to one process.
//
// Contract: nobody else than the directory's owner can take its lock, hold it up, or replace what is in it, or it.
//
// Reason: any user who could open the directory could hold a flock on it, and the agent did not start.
package statedir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/strictpath"
)

// ErrHeld is of a lock that another process has.
var ErrHeld = errors.New("another process has the lock")

// Lock takes the lock called name in dir, which the kernel releases when this process exits. It is a file that nobody
// else can open. Older versions locked the directory held instead: it is locked too, for them, but only one of them
// keeps us out, and no stranger. Where the file system knows no locks, there is none.
func Lock(dir, name, held string) (io.Closer, error) {
	if err := strictpath.Check(dir, false); err != nil {
		return nil, fmt.Errorf("keep state: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	older, err := os.Open(held)
	if err != nil {
		file.Close()
		return nil, err
	}
	both := locks{fdconn.Early(file), fdconn.Early(older)}
	if flock(both[0]) || flock(both[1]) && ours(both[1], "/proc") {
		both.Close()
		return nil, ErrHeld
	}
	return both, nil
}

type locks [2]*os.File

func (l locks) Close() error { return errors.Join(l[0].Close(), l[1].Close()) }

// flock reports whether another process has the lock.
func flock(f *os.File) bool {
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// ours reports whether a program like this one, of root or this user, holds the lock on f: not whoever could open it. A
// holder that is not known counts as one.
func ours(f *os.File, proc string) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	text, err := os.Open(filepath.Join(proc, "locks"))
	if err != nil {
		return true
	}
	defer text.Close()
	pids := holders(text, info)
	return len(pids) == 0 || slices.ContainsFunc(pids, func(pid string) bool { return likeThis(proc, pid) })
}

// likeThis reports whether a process runs a program like this one, as root or this user.
func likeThis(proc, pid string) bool {
	exe, err := os.Readlink(filepath.Join(proc, pid, "exe"))
	switch self, _ := os.Executable(); {
	case errors.Is(err, fs.ErrNotExist):
		return false // an agent's lock ends with it: a stranger's can be passed on
	case err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != filepath.Base(self):
		return false // sudo, say, which became root with the lock in its hands
	}
	status, err := os.ReadFile(filepath.Join(proc, pid, "status"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(status), "\nUid:\t")
	uid, _, _ := strings.Cut(after, "\t")
	return uid == "0" || uid == strconv.Itoa(os.Getuid())
}

// holders are the processes that may have taken a flock, by proc_locks(5): "1: FLOCK  ADVISORY  WRITE 42 08:01:77 0
// EOF". The device is not compared, since some file systems have another for stat: so others are among them who have
// locked a file of the same number elsewhere.
func holders(locks io.Reader, info fs.FileInfo) (pids []string) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	inode := ":" + strconv.FormatUint(uint64(st.Ino), 10)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) == 8 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			pids = append(pids, f[4])
		}
	}
	return pids
}
