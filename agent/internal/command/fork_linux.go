package command

import (
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// child is what a new process needs to become a command, prepared as plain memory.
//
// Between clone and exec the process is a copy of one thread of this one: it can use system calls and nothing of the
// Go runtime, which has locks that other threads held. So its functions do not allocate, do not grow the stack
// (nosplit), store no pointers, and never return.
//
// Reason: vfork, which os/exec and syscall.ForkExec are, holds the parent's thread until the child has exec'd. After
// setuid the child is its user's: one SIGSTOP, or a program on a file system that does not answer, held this process
// for good. A plain fork costs what vfork saves, the page tables and then a page fault for each page that this process
// writes: about half a millisecond. A process of our own that is exec'd for each start would cost two and more.
type child struct {
	clone    cloneArgs
	catching bool       // handlers of this process are still in force
	files    [3]uintptr // become 0, 1 and 2; none is below 3
	status   uintptr    // end of a pipe: see report
	terminal bool
	noNew    bool // no_new_privs
	umask    uintptr
	score    []byte // for oom_score_adj
	limit    unix.Rlimit
	limited  bool // limit is known

	filesHere uintptr // this process's descriptors are below it

	cred      bool
	setGroups bool
	uid, gid  uintptr
	groups    []uint32

	dir      []byte // with its zero; empty: stay
	attempts []uintptr
	searched bool // attempts come from PATH: one that is not there is passed over
	argv     []uintptr
	shell    []uintptr // argv of /bin/sh; the second is the attempt's
	env      []uintptr
	strings  []byte // what the numbers above point to

	report report
	action [4]uint64 // struct sigaction; the handler is first
	stat   unix.Stat_t
}

// cloneArgs is clone3(2)'s, as of kernel 5.7.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// step is what a child did when it failed.
type step int32

const (
	stepFiles step = iota
	stepTerminal
	stepLimit
	stepNoNewPrivs
	stepKeys
	stepGroups
	stepUser
	stepDir
	stepExec
)

var stepNames = [...]string{"pass descriptors", "take the terminal", "restore the limit of open files",
	"set no_new_privs", "take a session keyring", "set groups", "set user", "enter directory", "execute"}

// report is what a child writes if it does not become the command. If it does, its end of the pipe closes.
type report struct {
	step  step
	errno int32
	at    int32 // found
}

const reportSize = int(unsafe.Sizeof(report{}))

// newChild prepares everything but the descriptors.
func newChild(spec Spec) *child {
	c := &child{
		clone:    cloneArgs{flags: unix.CLONE_CLEAR_SIGHAND, exitSignal: uint64(unix.SIGCHLD)},
		terminal: spec.Terminal, noNew: spec.NoNewPrivs, umask: uintptr(spec.umask()),
		score: strconv.AppendInt(nil, int64(spec.OOMScoreAdj), 10), searched: searched(spec),
	}
	c.limit, c.limited = inheritedLimit()
	c.filesHere = uintptr(max(1024, filesHere.Load()))
	if cred := spec.Cred; cred != nil {
		c.cred, c.uid, c.gid, c.groups = true, uintptr(cred.UID), uintptr(cred.GID), cred.Groups
		c.setGroups = unix.Geteuid() == 0
	}
	if spec.Dir != "" {
		c.dir = append([]byte(spec.Dir), 0)
	}
	c.layOut(candidates(spec), spec.Args, spec.Env)
	return c
}

// layOut copies every string into one piece of memory, and points to them by number: a pointer may not be stored
// later. Go's heap does not move.
func (c *child) layOut(paths, args, env []string) {
	size := len("/bin/sh") + 1
	for _, list := range [][]string{paths, args, env} {
		for _, s := range list {
			size += len(s) + 1
		}
	}
	c.strings = make([]byte, 0, size)
	for _, p := range paths {
		c.attempts = append(c.attempts, c.add(p))
	}
	c.argv = make([]uintptr, 0, len(args)+1)
	for _, a := range args {
		c.argv = append(c.argv, c.add(a))
	}
	c.argv = append(c.argv, 0)
	c.shell = append([]uintptr{c.add("/bin/sh"), 0}, c.argv[1:]...)
	c.env = make([]uintptr, 0, len(env)+1)
	for _, e := range env {
		c.env = append(c.env, c.add(e))
	}
	c.env = append(c.env, 0)
}

func (c *child) add(s string) uintptr {
	at := len(c.strings)
	c.strings = append(append(c.strings, s...), 0)
	return uintptr(unsafe.Pointer(&c.strings[at]))
}

// fork makes the process. Signals are blocked until it execs: Go's handlers must not run in it.
//
//go:nosplit
//go:noinline
//go:norace
func (c *child) fork() (pid uintptr, errno syscall.Errno) {
	all, old := ^uint64(0), uint64(0)
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)),
		uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	args, size := uintptr(unsafe.Pointer(&c.clone)), unsafe.Sizeof(c.clone)
	pid, _, errno = syscall.RawSyscall(unix.SYS_CLONE3, args, size, 0)
	if errno != 0 && c.clone.cgroup == 0 { // before kernel 5.5, or in a container that knows no clone3
		c.catching = true
		pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
	if pid == 0 && errno == 0 {
		c.become()
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	return pid, errno
}

// become makes this process the command. Until it has its user, only root can reach it.
//
//go:nosplit
//go:noinline
//go:norace
func (c *child) become() {
	if c.catching {
		c.resetSignals()
	}
	c.passFiles()
	syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	if c.terminal {
		c.must(stepTerminal, unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	c.setScore()
	syscall.RawSyscall(unix.SYS_UMASK, c.umask, 0, 0)
	if c.limited {
		limit := uintptr(unsafe.Pointer(&c.limit))
		_, _, errno := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, limit, 0, 0, 0)
		c.check(stepLimit, errno)
	}
	if c.noNew {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
		c.check(stepNoNewPrivs, errno)
	}
	c.leaveKeys()
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&starting[0])), 0, 0, 0, 0)
	if c.cred {
		c.drop()
	}
	// This memory is a copy of the supervisor's, and a host may have fs.suid_dumpable. Signals are still blocked, so
	// it was never to be had; exec resets this.
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0, 0)
	if len(c.dir) > 0 {
		c.must(stepDir, unix.SYS_CHDIR, uintptr(unsafe.Pointer(&c.dir[0])), 0, 0)
	}
	c.action[0] = 0
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.action)), 0, 8, 0, 0)
	c.try()
}

// starting is the name of a process that has its user, in ps too, until it is the command.
var starting = []byte("starting\x00")

// resetSignals gives the signals that this process catches their default, as CLONE_CLEAR_SIGHAND does. Those that were
// ignored from the start, as below nohup(1), stay so.
//
//go:nosplit
//go:norace
func (c *child) resetSignals() {
	at := uintptr(unsafe.Pointer(&c.action))
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, at, 8, 0, 0)
		if c.action[0] > 1 { // neither SIG_DFL nor SIG_IGN
			c.action = [4]uint64{}
			syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, at, 0, 8, 0, 0)
		}
	}
}

// leaveKeys takes a session keyring of its own, which ends with the run. Whoever possesses one may read its keys,
// whosever they are (credentials(7), keyrings(7)): this process's may hold tickets of root's login, or another run's.
// Containers refuse the call, and have no keys.
//
//go:nosplit
//go:norace
func (c *child) leaveKeys() {
	_, _, errno := syscall.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
	if errno != syscall.ENOSYS && errno != syscall.EPERM {
		c.check(stepKeys, errno)
	}
}

// passFiles closes what the command does not get before it has its user: a process of theirs that is stopped must
// not keep another run's pipe open.
//
//go:nosplit
//go:norace
func (c *child) passFiles() {
	for i := range uintptr(3) {
		c.must(stepFiles, unix.SYS_DUP3, c.files[i], i, 0)
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CLOSE_RANGE, c.status+1, uintptr(^uint32(0)), 0)
	if errno == 0 && c.status > 3 {
		_, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 3, c.status-1, 0)
	}
	if errno != 0 { // before kernel 5.9; what is beyond closes with exec
		for fd := uintptr(3); fd < c.filesHere; fd++ {
			if fd != c.status {
				syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
			}
		}
	}
}

// setScore tells the kernel which process to kill first. Errors are ignored: a lower score needs a capability.
//
//go:nosplit
//go:norace
func (c *child) setScore() {
	name := uintptr(unsafe.Pointer(&scoreFile[0]))
	fd, _, errno := syscall.RawSyscall6(unix.SYS_OPENAT, 0, name, unix.O_WRONLY, 0, 0, 0)
	if errno == 0 {
		syscall.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&c.score[0])), uintptr(len(c.score)))
		syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
}

var scoreFile = []byte("/proc/self/oom_score_adj\x00")

//go:nosplit
//go:norace
func (c *child) drop() {
	if c.setGroups {
		list := uintptr(0)
		if len(c.groups) > 0 {
			list = uintptr(unsafe.Pointer(&c.groups[0]))
		}
		c.must(stepGroups, unix.SYS_SETGROUPS, uintptr(len(c.groups)), list, 0)
	}
	c.must(stepGroups, unix.SYS_SETRESGID, c.gid, c.gid, c.gid)
	c.must(stepUser, unix.SYS_SETRESUID, c.uid, c.uid, c.uid)
}

// try is the function try, as the command's user.
//
//go:nosplit
//go:norace
func (c *child) try() {
	c.report.errno, c.report.at = int32(syscall.ENOENT), int32(nothing)
	for _, path := range c.attempts {
		here := c.look(path)
		if here == nothing && c.searched {
			continue
		}
		errno := c.exec(path, c.argv)
		if errno == syscall.ENOEXEC {
			c.shell[1] = path
			errno = c.exec(c.shell[0], c.shell)
		}
		c.report.errno = int32(errno)
		if errno != syscall.EACCES {
			c.report.at = int32(here)
			c.fail(stepExec, errno)
		}
		c.report.at = int32(aFile)
		if !c.searched {
			c.report.at = int32(here)
		}
	}
	c.fail(stepExec, syscall.Errno(c.report.errno))
}

//go:nosplit
//go:norace
func (c *child) exec(path uintptr, argv []uintptr) syscall.Errno {
	args, env := uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&c.env[0]))
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE, path, args, env)
	return errno
}

const cwd = ^uintptr(99) // AT_FDCWD, -100

//go:nosplit
//go:norace
func (c *child) look(path uintptr) found {
	_, _, errno := syscall.RawSyscall6(unix.SYS_NEWFSTATAT, cwd, path, uintptr(unsafe.Pointer(&c.stat)), 0, 0, 0)
	switch {
	case errno != 0:
		return nothing
	case c.stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return aDirectory
	}
	return aFile
}

//go:nosplit
//go:norace
func (c *child) must(s step, trap, a, b, d uintptr) {
	_, _, errno := syscall.RawSyscall(trap, a, b, d)
	c.check(s, errno)
}

//go:nosplit
//go:norace
func (c *child) check(s step, errno syscall.Errno) {
	if errno != 0 {
		c.fail(s, errno)
	}
}

// fail reports and ends the process.
//
//go:nosplit
//go:norace
func (c *child) fail(s step, errno syscall.Errno) {
	c.report.step, c.report.errno = s, int32(errno)
	syscall.RawSyscall(unix.SYS_WRITE, c.status, uintptr(unsafe.Pointer(&c.report)), uintptr(reportSize))
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, CodeRefused, 0, 0)
	}
}
