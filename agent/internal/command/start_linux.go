package command

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const defaultUmask = 0o022

// forkExec starts path. Properties of the calling thread are set on a thread of its own, which then ends; the
// others are requested of clone itself.
func forkExec(path string, argv []string, spec Spec) (int, error) {
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: []uintptr{uintptr(spec.Files[0]), uintptr(spec.Files[1]), uintptr(spec.Files[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Terminal, Ctty: 0},
	}
	if attr.Env == nil {
		attr.Env = []string{} // nil would mean this process's own
	}
	if c := spec.Cred; c != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups,
			NoSetGroups: os.Geteuid() != 0}
	}
	if dir, ok := spec.Group.cloneInto(); ok {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open control group: %w", err)
		}
		defer unix.Close(fd)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
	}
	if !spec.needsThread() {
		return syscall.ForkExec(path, argv, attr)
	}
	return onThread(func() (int, error) {
		if err := spec.prepareThread(); err != nil {
			return 0, err
		}
		defer spec.Group.leaveThread()
		return syscall.ForkExec(path, argv, attr)
	})
}

func (spec *Spec) umask() int {
	if spec.Umask == 0 {
		return defaultUmask
	}
	return spec.Umask & 0o777
}

// needsThread reports whether a property of a thread must be set. A start with the usual umask on control
// groups v2 needs none.
func (spec *Spec) needsThread() bool {
	return spec.NoNewPrivs || spec.Group.needsThread() || spec.umask() != ownUmask()
}

// prepareThread changes the calling thread only: unshare(CLONE_FS) gives it a umask of its own, and cgroup v1
// groups and no_new_privs apply to threads.
func (spec *Spec) prepareThread() error {
	if spec.umask() != ownUmask() {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("set umask: %w", err)
		}
		unix.Umask(spec.umask())
	}
	if spec.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return spec.Group.enterThread()
}

// ownUmask is this process's umask, which never changes.
var ownUmask = sync.OnceValue(readUmask)

// readUmask reads the umask from /proc: umask(2) returns it only by setting another, for every thread.
func readUmask() int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return -1
	}
	_, rest, ok := strings.Cut(string(b), "\nUmask:\t")
	if !ok {
		return -1
	}
	digits, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(digits, 8, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// onThread runs f on a thread that ends with it. Not on the main thread, which cannot end: the runtime would
// park it for ever in the state that f left, such as a run's control group.
func onThread(f func() (int, error)) (pid int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			pid, err = onThread(f) // this thread is locked, so the next goroutine is on another
			runtime.UnlockOSThread()
			return
		}
		pid, err = f() // still locked at return: the thread ends
	}()
	<-done
	return pid, err
}

// setOOMScore tells the kernel which process to kill first. The command has run for some microseconds: a child
// it forked in that time keeps the parent's value. Errors are ignored: it has ended, or we may not.
func setOOMScore(pid, adj int) {
	_ = write("/proc/"+strconv.Itoa(pid), "oom_score_adj", strconv.Itoa(adj))
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
