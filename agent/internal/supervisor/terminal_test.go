//go:build linux

package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// screenOf is a client process at a terminal, and everything the terminal has shown.
type screenOf struct {
	cmd  *exec.Cmd
	tty  *os.File
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{}
}

func (d *daemon) terminal(t *testing.T, cmd *exec.Cmd, rows, cols uint16) *screenOf {
	t.Helper()
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		t.Fatal(err)
	}
	s := &screenOf{cmd: cmd, tty: tty, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		tty.Close()
		<-s.done
		if t.Failed() {
			t.Logf("the terminal showed:\n%q", s.shown())
		}
	})
	return s
}

func (s *screenOf) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screenOf) typeIn(text string) { s.tty.WriteString(text) }

func (s *screenOf) expect(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("terminal shows %q", text), func() bool { return strings.Contains(s.shown(), text) })
}

func (s *screenOf) exitCode(t *testing.T, want int) {
	t.Helper()
	done := make(chan struct{})
	go func() { s.cmd.Wait(); <-s.done; close(done) }() // nobody else holds the terminal: all that it shows has been read
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the client does not end")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

func onTerminal(line string) runs.Request {
	r := request(line)
	r.IO, r.Size = runs.IOTerminal, session.Size{Rows: 33, Cols: 101}
	r.Env = append(r.Env, "TERM=xterm", "PS1=$ ", "HOME=/nonexistent")
	return r
}

func (d *daemon) attach(id string) *exec.Cmd {
	cmd := d.client(onTerminal(""))
	cmd.Env = append(cmd.Env, "SUPERVISOR_TEST_ATTACH="+id)
	return cmd
}

// theRun returns the only run there is.
func (d *daemon) theRun(t *testing.T) runs.Run {
	t.Helper()
	list, err := d.List(t.Context(), runs.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("runs are %+v, %v", list, err)
	}
	return list[0]
}

// moby#35407 starts at 0x0, session-manager-plugin#48 at 80x24.
func TestTerminalSizeFromTheFirstByte(t *testing.T) {
	d := start(t)
	s := d.terminal(t, d.client(onTerminal("stty size; trap 'stty size; exit 5' WINCH; tty; while :; do sleep 0.01; done")), 33, 101)
	s.expect(t, "33 101")
	s.expect(t, "/dev/pts/")
	pty.Setsize(s.tty, &pty.Winsize{Rows: 50, Cols: 160})
	s.expect(t, "50 160")
	s.exitCode(t, 5)
}

// Every byte the command wrote is shown before its exit, however it ends.
func TestExitFollowsAllOutput(t *testing.T) {
	d := start(t)
	var want strings.Builder
	for i := 1; i <= 20000; i++ {
		fmt.Fprintf(&want, "%d\r\n", i)
	}
	s := d.terminal(t, d.client(onTerminal("seq 1 20000; kill -KILL $$")), 33, 101)
	s.exitCode(t, 137)
	<-s.done
	if got := s.shown(); got != want.String() {
		t.Errorf("%d bytes were shown, want %d", len(got), want.Len())
	}
}

// A daemon that keeps the terminal open must not keep the client.
func TestExitDoesNotWaitForDaemons(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	d := start(t)
	s := d.terminal(t, d.client(onTerminal("trap '' HUP TERM; (while :; do echo noise; sleep 0.001; done) & sleep 0.05; exit 4")), 33, 101)
	s.exitCode(t, 4)
	if run := d.theRun(t); run.ExitCode != 4 {
		t.Errorf("recorded %+v", run)
	}
}

func TestJobControl(t *testing.T) {
	d := start(t)
	req := onTerminal("")
	req.Args = []string{"bash", "--norc", "--noprofile", "-i"}
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "$ ")
	s.typeIn("sleep 1000\r")
	eventually(t, "sleep runs", func() bool { return bytes.Contains(pgrep("sleep 1000"), []byte("\n")) })
	s.typeIn("\x1a") // Ctrl-Z
	s.expect(t, "Stopped")
	s.typeIn("jobs; kill %1; wait; echo code-$((40+2))\r")
	s.expect(t, "code-42")
	s.typeIn("sleep 1001\r")
	eventually(t, "the second sleep runs", func() bool { return bytes.Contains(pgrep("sleep 1001"), []byte("\n")) })
	s.typeIn("\x03") // Ctrl-C
	s.expect(t, "^C")
	s.typeIn("echo after-$((1+1))\r")
	s.expect(t, "after-2")
	s.typeIn("exit 6\r")
	s.exitCode(t, 6)
}

func pgrep(line string) []byte {
	out, _ := exec.Command("pgrep", "-f", "-x", line).Output()
	return out
}

// Whatever way the client takes out, the person's terminal is as it was.
func TestTerminalIsRestored(t *testing.T) {
	d := start(t)
	for name, leave := range map[string]func(s *screenOf){
		"exit":   func(s *screenOf) { s.typeIn("x") },
		"signal": func(s *screenOf) { s.cmd.Process.Signal(syscall.SIGTERM) },
		"escape": func(s *screenOf) { s.typeIn("\r~.") },
		"lost": func(s *screenOf) {
			d.cmd.Process.Kill()
			d.cmd.Wait()
		},
	} {
		if name == "lost" {
			continue // last, it ends the supervisor
		}
		t.Run(name, func(t *testing.T) { leaveAndCompare(t, d, leave) })
	}
	t.Run("lost", func(t *testing.T) {
		leaveAndCompare(t, d, func(s *screenOf) { d.cmd.Process.Kill(); d.cmd.Wait() })
		d.restart(t)
	})
}

func leaveAndCompare(t *testing.T, d *daemon, leave func(*screenOf)) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	defer master.Close()
	before, _ := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	cmd := d.client(onTerminal(`stty raw -echo; printf '\033[?1049h\033[?1000hup'; head -c1 >/dev/null; exit 0`))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &screenOf{cmd: cmd, tty: master, done: make(chan struct{})}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.expect(t, "up")
	if now, _ := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); now.Lflag&unix.ECHO != 0 {
		t.Fatal("the client did not go into raw mode")
	}
	leave(s)
	cmd.Wait()
	if after, _ := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); *after != *before {
		t.Errorf("settings are %+v, were %+v", after, before)
	}
	s.expect(t, "\x1b[?1049l")
	s.expect(t, "\x1b[?1000l")
}

// Reason: a dropped connection in the middle of a migration that asks questions.
func TestDroppedClientLeavesTheSession(t *testing.T) {
	d := start(t)
	req := onTerminal("")
	req.Args = []string{"bash", "--norc", "--noprofile", "-i"}
	s := d.terminal(t, d.client(req), 33, 101)
	s.typeIn("x=4; echo one-$((x*10+2))\r")
	s.expect(t, "one-42")
	s.cmd.Process.Kill()
	eventually(t, "nobody is attached", func() bool { return !d.theRun(t).Attached })
	if !d.theRun(t).Live() {
		t.Fatal("the session ended with its client")
	}

	again := d.terminal(t, d.attach(d.theRun(t).ID), 33, 101)
	again.expect(t, "one-42") // scroll-back
	again.typeIn("echo two-$((x+3))\r")
	again.expect(t, "two-7")

	third := d.terminal(t, d.attach(d.theRun(t).ID), 33, 101)
	third.expect(t, "two-7")
	again.exitCode(t, 0)
	again.expect(t, "attached elsewhere\r\ndetached; agent attach "+d.theRun(t).ID)
	third.typeIn("exit 9\r")
	third.exitCode(t, 9)
}

// abduco#30: programs ignore a WINCH that finds the size they know.
func TestAttachMakesFullScreenProgramsRedraw(t *testing.T) {
	if _, err := exec.LookPath("less"); err != nil {
		need(t, "less")
	}
	d := start(t)
	file := filepath.Join(t.TempDir(), "text")
	os.WriteFile(file, []byte(strings.Repeat("a line of text\n", 200)), 0o644)
	req := onTerminal("")
	req.Args = []string{"less", file}
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "a line of text")
	s.typeIn("\r~.")
	s.exitCode(t, 0)
	again := d.terminal(t, d.attach(d.theRun(t).ID), 33, 101)
	again.expect(t, "\x1b[?1049h")
	again.expect(t, "a line of text")
	if n := strings.Count(again.shown(), "a line of text"); n > 80 {
		t.Errorf("%d lines came: the alternate screen was replayed", n)
	}
	// Again and again: less loses a key that comes at the moment of a new size, and the second one is still due.
	eventually(t, "less has ended", func() bool { again.typeIn("q"); return !d.theRun(t).Live() })
	again.exitCode(t, 0)
}

func TestIdleSessionIsWarnedThenEnded(t *testing.T) {
	d := start(t)
	req := onTerminal("cat")
	req.Idle = 2 * time.Second
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "unless you type: it was idle")
	s.exitCode(t, 129)
	if run := d.theRun(t); run.StoppedBy != "idle" {
		t.Errorf("recorded %+v", run)
	}
}

func TestTimeLimitIsWarned(t *testing.T) {
	d := start(t)
	req := onTerminal("cat")
	req.Timeout = time.Second
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "its time limit of 1s")
	s.exitCode(t, 124)
	s.expect(t, "ended at its time limit")
}

// A client replaces its terminals by pipes. This lock does not depend on it: a client of an older version, or another
// program, would hand a terminal to a command of another user.
func TestTerminalOfAnotherUserIsRefused(t *testing.T) {
	d := start(t)
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	hungUp, dead, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	hungUp.Close()
	null := devNull(t)
	for name, c := range map[string]struct {
		files  []int
		caller uint32
		ok     bool
	}{
		"the caller's user": {[]int{int(slave.Fd()), null, null}, uint32(os.Getuid()), true},
		"stdin":             {[]int{int(slave.Fd()), null, null}, uint32(os.Getuid()) + 1, false},
		"stderr":            {[]int{null, null, int(slave.Fd())}, uint32(os.Getuid()) + 1, false},
		"the other end":     {[]int{null, int(master.Fd()), null}, uint32(os.Getuid()) + 1, false},
		"hung up":           {[]int{int(dead.Fd()), null, null}, uint32(os.Getuid()) + 1, false},
		"none":              {[]int{null, null, null}, uint32(os.Getuid()) + 1, true},
	} {
		req := argv("true")
		req.Caller.UID = c.caller
		_, err := d.Start(t.Context(), req, runs.Handover{Files: c.files})
		if e, _ := errors.AsType[*runs.Refused](err); (err == nil) != c.ok || e != nil && (e.Code != 125 || e.Hint == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := d.List(t.Context(), runs.Filter{}); err != nil || len(list) != 2 {
		t.Errorf("recorded are %+v, %v", list, err)
	}
}

// A program that never reads and a person who keeps typing: the way out must still work.
func TestEscapeFromAStuckProgram(t *testing.T) {
	d := start(t)
	s := d.terminal(t, d.client(onTerminal("stty raw -echo; echo stuck; exec sleep 1000")), 33, 101)
	s.expect(t, "stuck")
	for range 40 {
		s.typeIn(strings.Repeat("x", 1000))
	}
	s.typeIn("\r~.")
	s.exitCode(t, 0)
	if !regexp.MustCompile(`detached; agent attach \S+`).MatchString(s.shown()) {
		t.Error("it was not said how to come back")
	}
}

func need(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// onPTY gives cmd a terminal for its three streams.
func onPTY(t *testing.T, cmd *exec.Cmd) (master *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	return master
}

// closeStdin closes this process's copy of the terminal, so that the master sees its end.
func closeStdin(cmd *exec.Cmd, ioKind string) {
	if f, ok := cmd.Stdin.(*os.File); ok && ioKind == runs.IOTerminal {
		f.Close()
	}
}
