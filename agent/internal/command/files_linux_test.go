package command

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// Before kernel 5.9 a child closes this process's descriptors one by one: all that it may have, not the first thousand.
// A command that is held before its exec has none of another run's then. So this test's own binary runs it again, in a
// kernel that says it has no close_range.
func TestEveryDescriptorIsClosedWithoutCloseRange(t *testing.T) {
	if os.Getenv("WITHOUT_CLOSE_RANGE") == "" {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), "WITHOUT_CLOSE_RANGE=1")
		if out, err := again.CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	const high = 3000
	if n := RaiseFileLimit(2 * high); n < 2*high {
		gotool.Need(t, "more open files than it may have")
	}
	if err := unix.Dup3(1, high, 0); err != nil { // exec does not close it
		t.Fatal(err)
	}
	withoutCloseRange(t)
	out, _, err := run(t, sh("ls /proc/self/fd"))
	if files := strings.Fields(out); err != nil || len(files) != 4 { // ls has the directory open
		t.Errorf("the command has %q, %v", files, err)
	}
}

// withoutCloseRange has the kernel answer this process as one from before close_range does.
func withoutCloseRange(t *testing.T) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOSE_RANGE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog))) // root needs no no_new_privs
	if errno != 0 {
		gotool.Need(t, "seccomp: "+errno.Error())
	}
	if err := unix.CloseRange(1<<20, 1<<20, 0); !errors.Is(err, unix.ENOSYS) {
		t.Fatal("close_range is still there: ", err)
	}
}
