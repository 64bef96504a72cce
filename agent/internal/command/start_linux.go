package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const defaultUmask = 0o022

// startWait bounds a start. Whoever can stop the new process, or answer for its directory or program, may let it wait.
var startWait = 10 * time.Second // shorter in tests

// maxUnkillable bounds what one user can leave here by programs on a file system that has taken a request and does not
// answer it: the kernel does not end such a process, which holds a copy of this one's memory.
const maxUnkillable = 16

var errSlow = errors.New("the start took longer than 10 s: its process is stopped, or its program or directory " +
	"does not answer")

// start makes a child and waits until it is the command. r is not held meanwhile, and no other start waits.
func start(spec Spec, r *Reaper) (*Process, error) {
	uid := uint32(os.Geteuid())
	if spec.Cred != nil {
		uid = spec.Cred.UID
	}
	if n := r.unkillable(uid); n >= maxUnkillable {
		return nil, refused(spec, fmt.Errorf("%d processes that this user's earlier starts left do not end: "+
			"a file system does not answer", n))
	}
	c := newChild(spec)
	status, closeAll, err := c.open(spec)
	if err != nil {
		return nil, ours(spec, err)
	}
	defer status.Close()
	p, err := r.adopt(spec.Group, func() (int, error) {
		return spec.Group.within(func() (int, error) {
			pid, errno := c.fork()
			if errno != 0 {
				return 0, fmt.Errorf("make a process: %w", errno)
			}
			return int(pid), nil
		})
	})
	closeAll()
	runtime.KeepAlive(c)
	if err != nil {
		return nil, ours(spec, err)
	}
	if err := await(spec, p.PID, status); err != nil {
		r.kill(p, uid)
		return nil, err
	}
	return p, nil
}

// ours is an error in which the command and its user have no part.
func ours(spec Spec, err error) *StartError {
	e := refused(spec, err)
	e.Ours = true
	return e
}

// open makes the pipe that the child reports by, and finds the descriptors that it takes along. closeAll closes this
// process's copies.
func (c *child) open(spec Spec) (status *os.File, closeAll func(), err error) {
	var opened []int
	closeAll = func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}
	above := func(fd int) uintptr { // 0, 1 and 2 are overwritten in the child
		if fd > 2 || err != nil {
			return uintptr(fd)
		}
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err == nil {
			opened = append(opened, fd)
		}
		return uintptr(fd)
	}
	for i, fd := range spec.Files {
		c.files[i] = above(fd)
	}
	var p [2]int
	if err == nil {
		err = unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK)
	}
	if err == nil {
		status = os.NewFile(uintptr(p[0]), "start")
		opened = append(opened, p[1])
		c.status = above(p[1])
	}
	if dir, ok := spec.Group.cloneInto(); ok && err == nil {
		var fd int
		if fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			opened = append(opened, fd)
			c.clone.flags |= unix.CLONE_INTO_CGROUP
			c.clone.cgroup = uint64(fd)
		}
	}
	if err != nil {
		closeAll()
		if status != nil {
			status.Close()
		}
		return nil, nil, fmt.Errorf("prepare start: %w", err)
	}
	return status, closeAll, nil
}

// await waits until the child is the command, which closes the pipe, or says why not. One that is killed meanwhile is a
// command that a signal ended.
func await(spec Spec, pid int, status *os.File) error {
	_ = status.SetReadDeadline(time.Now().Add(startWait))
	var said [reportSize]byte
	_, err := io.ReadFull(status, said[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := refused(spec, errSlow)
		name, _ := readFile("/proc/" + strconv.Itoa(pid) + "/comm")
		e.Ours = name != string(starting[:len(starting)-1])+"\n"
		return e
	case err != nil:
		return nil
	}
	return failure(spec, step(number(said[:])), syscall.Errno(number(said[4:])), found(number(said[8:])))
}

func number(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func failure(spec Spec, s step, errno syscall.Errno, at found) error {
	switch s {
	case stepExec:
		return explain(spec, at, errno)
	case stepDir:
		return refused(spec, fmt.Errorf("enter directory: %w", &fs.PathError{Op: "chdir", Path: spec.Dir, Err: errno}))
	}
	return ours(spec, fmt.Errorf("%s: %w", stepNames[s], errno))
}

func (spec *Spec) umask() int {
	if spec.Umask == 0 {
		return defaultUmask
	}
	return spec.Umask & 0o777
}

// inheritedLimit is the limit of open files that this process was started with. The Go runtime raises the soft one for
// itself before main, and gives the old one back only to what syscall.ForkExec starts: so that is asked.
var inheritedLimit = sync.OnceValues(func() (limit unix.Rlimit, known bool) {
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return limit, false
	}
	if limit.Cur != limit.Max-1 { // not raised
		return limit, true
	}
	r, w, err := os.Pipe()
	if err != nil {
		return limit, false
	}
	defer r.Close()
	out := w.Fd()
	pid, err := syscall.ForkExec("/bin/sh", Shell("ulimit -Sn"), &syscall.ProcAttr{Files: []uintptr{out, out, out}})
	w.Close()
	if err != nil {
		return limit, false
	}
	text, _ := io.ReadAll(r)
	_, _ = unix.Wait4(pid, nil, 0, nil) // a Reaper may have been first
	limit.Cur, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return limit, err == nil
})

// filesHere is above the numbers of this process's descriptors, as far as it has them closed one by one.
var filesHere atomic.Int64

// RaiseFileLimit lets this process have most files open, if it may, and returns how many it may have. Commands have the
// limit that this process was started with.
func RaiseFileLimit(most int) int {
	if int64(most) > filesHere.Load() {
		filesHere.Store(int64(most))
	}
	limit, known := inheritedLimit()
	if known && limit.Max < uint64(most) { // needs CAP_SYS_RESOURCE
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(most), Max: uint64(most)})
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return most
	}
	return int(min(limit.Cur, 1<<30))
}

// within runs f in the group, on v1: its child is created there. The thread that entered the group ends with it.
// Not on the main thread, which cannot end: the runtime would park it for ever in the group.
func (g *Group) within(f func() (int, error)) (pid int, err error) {
	if !g.needsThread() {
		return f()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			pid, err = g.within(f) // this thread is locked, so the next goroutine is on another
			runtime.UnlockOSThread()
			return
		}
		if err = g.enterThread(); err == nil {
			defer g.leaveThread()
			pid, err = f() // still locked at return: the thread ends
		}
	}()
	<-done
	return pid, err
}

// CloseOnExec marks every descriptor of this process but the standard three, so that commands do not inherit
// what this process inherited. Call it before there are other goroutines.
func CloseOnExec() error {
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // kernels before 5.11
	if err != nil {
		return fmt.Errorf("mark descriptors: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
