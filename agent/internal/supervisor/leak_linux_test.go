package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
)

var _ = func() bool { roles["leak"], roles["stall"] = leakMain, stallMain; return true }()

// leakMain is a command that prints a line and passes its standard output out of the run, as any process of the
// application may.
func leakMain() int {
	fmt.Println("honest line")
	conn, err := net.Dial("unix", os.Getenv("LEAK_TO"))
	if err == nil {
		err = fdconn.Send(conn.(*net.UnixConn), []byte("x"), 1)
	}
	if err != nil {
		panic(err)
	}
	conn.Read(make([]byte, 1)) // until the test lets it end
	return 0
}

// leaked starts a run that passes its standard output to the test. end has the command end.
func leaked(t *testing.T, d *daemon) (run runs.Run, out int, end func()) {
	t.Helper()
	return leakedBy(t, d, func(*runs.Request) {})
}

func leakedBy(t *testing.T, d *daemon, change func(*runs.Request)) (run runs.Run, out int, end func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := fdconn.Listen(filepath.Join(t.TempDir(), "leak"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	req := argv(exe)
	req.IO, req.Env = runs.IOSpool, append(req.Env, "SUPERVISOR_TEST_ROLE=leak", "LEAK_TO="+l.Addr().String())
	change(&req)
	if run, err = d.Start(t.Context(), req, runs.Handover{}); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := conn.(*fdconn.Conn)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	files := c.Take()
	if len(files) != 1 {
		t.Fatalf("%d descriptors came", len(files))
	}
	t.Cleanup(func() { unix.Close(files[0]) })
	return run, files[0], func() { c.Close() }
}

// tamper does all that can be done with a descriptor of a run's output.
func tamper(out int) {
	unix.FcntlInt(uintptr(out), unix.F_SETFL, 0) // no O_APPEND any more
	unix.Pwrite(out, []byte("FORGED line"), 0)
	unix.Ftruncate(out, 1<<20)
	unix.Fallocate(out, unix.FALLOC_FL_KEEP_SIZE, 0, 64<<20)
	unix.FcntlInt(uintptr(out), unix.F_SETPIPE_SZ, 1<<20)
	unix.SetNonblock(out, true)
	for range 100 {
		if _, err := unix.Write(out, bytes.Repeat([]byte("grown\n"), 10_000)); err != nil {
			break
		}
	}
}

// A process outside the run that was passed its output reads nothing of it, and changes nothing that was printed; and
// nothing at all once the run has ended.
func TestEndedOutputCannotBeChanged(t *testing.T) {
	d := start(t)
	run, out, end := leaked(t, d)
	name := run.Output
	eventually(t, "the line is there", func() bool { b, _ := os.ReadFile(name); return string(b) == "honest line\n" })
	if n, err := unix.Pread(out, make([]byte, 10), 0); n > 0 {
		t.Errorf("it reads %d bytes of the output: %v", n, err)
	}
	unix.FcntlInt(uintptr(out), unix.F_SETFL, 0)
	unix.Pwrite(out, []byte("FORGED line"), 0)
	if b, _ := os.ReadFile(name); string(b) != "honest line\n" {
		t.Errorf("while it runs its output becomes %q", b)
	}
	end()
	ended, err := d.Wait(t.Context(), run.ID)
	if err != nil || ended.OutputBytes != 12 {
		t.Errorf("ended as %+v, %v", ended, err)
	}
	eventually(t, "no process of it is left", func() bool { return strings.Contains(d.log.String(), "run ended") })
	if err := d.Signal(t.Context(), run.ID, syscall.SIGTERM); !errors.Is(err, runs.ErrEnded) {
		t.Error(err)
	}
	eventually(t, "its output is closed", func() bool {
		_, err := unix.Write(out, []byte("a last word\n"))
		return errors.Is(err, unix.EPIPE)
	})
	before, _ := os.ReadFile(name)
	if tamper(out); !bytes.HasPrefix(before, []byte("honest line\n")) {
		t.Errorf("its output became %q", before)
	}
	var logs bytes.Buffer
	if err := d.Logs(t.Context(), &logs, run.ID, 0, false); err != nil || !bytes.Equal(logs.Bytes(), before) {
		t.Errorf("logs show %.100q (%v), want %q", &logs, err, before)
	}
	if again, err := d.Get(t.Context(), run.ID); err != nil || again.OutputBytes != int64(len(before)) {
		t.Errorf("the record says %d bytes, %v; there are %d", again.OutputBytes, err, len(before))
	}
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil || st.Blocks*512 > 8<<10 {
		t.Errorf("it takes %d kB of the disk, %v", st.Blocks/2, err)
	}
}

// stallMain writes to its standard output from memory that a debugger-like process of the same user never provides
// (userfaultfd(2); a file on FUSE does it, too). The kernel holds the lock of what is written to meanwhile.
func stallMain() int {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		fmt.Fprintln(os.Stderr, "userfaultfd:", errno)
		return 1
	}
	const size = 16 << 10
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	api := [3]uint64{0xAA}
	reg := [4]uint64{uint64(uintptr(unsafe.Pointer(&page[0]))), size, 1}
	const uffdioAPI, uffdioRegister = 0xc018aa3f, 0xc020aa00
	unix.Syscall(unix.SYS_IOCTL, fd, uffdioAPI, uintptr(unsafe.Pointer(&api)))
	if _, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uffdioRegister, uintptr(unsafe.Pointer(&reg))); errno != 0 {
		panic(errno)
	}
	fmt.Fprintln(os.Stderr, "stalling")
	if os.Getenv("STALL_IN") == "size" {
		unix.Syscall(unix.SYS_IOCTL, 1, unix.TIOCGWINSZ, uintptr(reg[0]))
		return 0
	}
	unix.Syscall(unix.SYS_WRITE, 1, uintptr(reg[0]), size)
	return 0
}

// Whoever has a descriptor of a run's output can hold the kernel's lock on it for ever. That costs the run its last
// words, and nobody else anything.
func TestStalledOutputHoldsUpNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 6 s")
	}
	t.Parallel()
	d := start(t)
	run, out, end := leaked(t, d)
	release := stall(t, out)
	unix.SetNonblock(out, true)
	go unix.Write(out, []byte("more")) // wakes the reader, which then waits for the lock; so does this thread
	end()
	for range 3 {
		asked := time.Now()
		if _, err := d.List(t.Context(), runs.Filter{}); err != nil || time.Since(asked) > 5*time.Second {
			t.Errorf("the supervisor answered after %s: %v", time.Since(asked), err)
		}
		other, err := d.Start(t.Context(), spooled("echo hello; exit 3"), runs.Handover{})
		if err != nil {
			t.Fatal(err)
		}
		if other, err = d.Wait(t.Context(), other.ID); err != nil || other.ExitCode != 3 || other.OutputBytes != 6 {
			t.Errorf("another run ended as %+v, %v", other, err)
		}
	}
	if ended, err := d.Wait(t.Context(), run.ID); err != nil || ended.ExitCode != 0 || ended.State != runs.StateExited {
		t.Errorf("ended as %+v, %v", ended, err)
	}
	eventually(t, "who holds it up is said", func() bool { return strings.Contains(d.log.String(), "holds up its output") })
	release()
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Wait()
}

// stall has a process stall in a write to out.
func stall(t *testing.T, out int) (release func()) {
	t.Helper()
	return stallIn(t, out, unix.SYS_WRITE, "")
}

// stallIn has a process stall in a call about out: STALL_IN of stallMain.
func stallIn(t *testing.T, out, call int, in string) (release func()) {
	t.Helper()
	staller := self("stall", "STALL_IN="+in)
	staller.Stdout = os.NewFile(uintptr(dup(t, out)), "out")
	words, err := staller.StderrPipe()
	if err == nil {
		err = staller.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { staller.Process.Kill(); staller.Wait() })
	t.Cleanup(release)
	said := make([]byte, 100)
	if n, _ := words.Read(said); !strings.HasPrefix(string(said[:n]), "stalling") {
		gotool.Need(t, "userfaultfd: "+string(said[:n]))
	}
	eventually(t, "it stalls", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", staller.Process.Pid))
		return strings.HasPrefix(string(b), fmt.Sprintf("%d 0x1 ", call))
	})
	return release
}

// A command that stalls from the first moment has its time limit, and one that is given a client's pipe which somebody
// holds up is started: only the kernel keeps that one from ending.
func TestStalledCommandIsEnded(t *testing.T) {
	t.Parallel()
	d := start(t)
	var out [2]int
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	release := stall(t, out[1])
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	null := devNull(t)
	for io, files := range map[string][]int{runs.IOSpool: nil, runs.IOPipes: {null, out[1], null}} {
		req := argv(exe)
		req.IO, req.Env = io, append(req.Env, "SUPERVISOR_TEST_ROLE=stall")
		req.Timeout, req.Grace = 500*time.Millisecond, 100*time.Millisecond
		run, err := d.Start(t.Context(), req, runs.Handover{Files: files})
		if err != nil {
			t.Fatal(err)
		}
		if io == runs.IOPipes {
			release()
		}
		if run, err = d.Wait(t.Context(), run.ID); err != nil || !run.TimedOut {
			t.Errorf("%s: ended as %+v, %v", io, run, err)
		}
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
