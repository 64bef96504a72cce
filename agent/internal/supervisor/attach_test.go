//go:build linux

package supervisor

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// A client that comes at the very instant of the end sees all of the output and gets the exit code, whether
// the session is about to end, is delivering its last output, or is gone. It is never told 125 and never hangs.
func TestAttachAtTheInstantOfTheEnd(t *testing.T) {
	d := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	whole := strings.ReplaceAll(string(pattern()), "\n", "\r\n")
	// Not typed: what is on its way from a client that is displaced is lost with it.
	fifo := t.TempDir() + "/go"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	for range attachRaces() {
		run := d.forsaken(t, "read x <"+fifo+"; seq 1 3000; exit 7")
		first := d.terminal(t, d.attach(run.ID), 33, 101)
		eventually(t, "it is attached", func() bool { r, err := d.Get(t.Context(), run.ID); return err == nil && r.Attached })
		cmd := d.attach(run.ID)
		os.WriteFile(fifo, []byte("\n"), 0)
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond) // the random moment: not a wait for anything
		second := d.terminal(t, cmd, 33, 101)
		second.exitCode(t, 7)
		eventually(t, "one client has the whole end of the output", func() bool { // the first may be slow to show it
			return strings.Contains(second.shown(), whole[len(whole)-10000:]) || strings.Contains(first.shown(), whole[len(whole)-10000:])
		})
	}
}

func attachRaces() int {
	if n, err := strconv.Atoi(os.Getenv("ATTACH_RACES")); err == nil {
		return n
	}
	return 5
}

// forsaken is a run on a terminal whose client was killed.
func (d *daemon) forsaken(t *testing.T, line string) runs.Run {
	t.Helper()
	req := onTerminal("echo up; " + line)
	req.ID = runs.NewID()
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "up")
	s.cmd.Process.Kill()
	var run runs.Run
	eventually(t, "nobody is attached", func() bool {
		var err error
		run, err = d.Get(t.Context(), req.ID)
		return err == nil && !run.Attached
	})
	return run
}

// A connection drops in the middle of a migration, which then ends: whoever comes back sees how. Also a
// supervisor later, and without a terminal of one's own.
func TestEndThatNobodySawIsShownLater(t *testing.T) {
	d := start(t)
	fifo := t.TempDir() + "/go"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	run := d.forsaken(t, `printf '\033[?1049hon the alternate screen'; read x <`+fifo+`; printf '\033[?1049l'; echo migrated $x; exit 9`)
	os.WriteFile(fifo, []byte("all\n"), 0)
	if ended, err := d.Wait(t.Context(), run.ID); err != nil || ended.ExitCode != 9 {
		t.Fatalf("%+v, %v", ended, err)
	}
	look := func() {
		t.Helper()
		s := d.terminal(t, d.attach(run.ID), 33, 101)
		s.exitCode(t, 9)
		<-s.done
		if got := s.shown(); !strings.Contains(got, "migrated all") || strings.Contains(got, "alternate screen") || !strings.Contains(got, "run "+run.ID+" ended at ") {
			t.Errorf("the second client saw %q", got)
		}
		cmd := d.attach(run.ID) // no terminal here
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 9 || !strings.Contains(string(out), "migrated all") {
			t.Errorf("without a terminal: code %d, %q", cmd.ProcessState.ExitCode(), out)
		}
	}
	look()
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.restart(t)
	look()
	var logs strings.Builder
	if err := d.Logs(t.Context(), &logs, run.ID, 0, false); err != nil || !strings.Contains(logs.String(), "migrated all") {
		t.Errorf("logs: %q, %v", logs.String(), err)
	}
}

// That a run has ended is told once its last screen can be shown, whatever it left behind that is still being
// ended: to who attaches, with a terminal or without, and to logs and ps.
func TestEndIsToldWithItsLastScreen(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	d := start(t)
	fifo := t.TempDir() + "/go"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	for _, left := range []struct{ name, daemon string }{
		{"a daemon keeps the terminal", "(trap '' HUP TERM; exec sleep 60) & "},
		{"a daemon has let the terminal go", "(trap '' HUP TERM; exec sleep 60) </dev/null >/dev/null 2>&1 & "},
		{"nothing is left", ""}, // but of the two before
	} {
		t.Run(left.name, func(t *testing.T) {
			run := d.forsaken(t, left.daemon+"read x <"+fifo+"; echo migrated $x; exit 9")
			os.WriteFile(fifo, []byte("all\n"), 0)
			ended, err := d.Wait(t.Context(), run.ID)
			if err != nil || ended.ExitCode != 9 || ended.OutputBytes == 0 {
				t.Errorf("wait: %+v, %v", ended, err)
			}
			if list, err := d.List(t.Context(), runs.Filter{Limit: 1}); err != nil || list[0].ID != run.ID || list[0].OutputBytes == 0 {
				t.Errorf("ps: %+v, %v", list, err)
			}
			var logs strings.Builder
			if err := d.Logs(t.Context(), &logs, run.ID, 0, false); err != nil || !strings.Contains(logs.String(), "migrated all") {
				t.Errorf("logs: %q, %v", logs.String(), err)
			}
			for range 2 {
				shown, told := d.lookBack(t.Context(), t, run.ID, 9)
				if strings.Count(shown, "migrated all") != 1 || !strings.HasPrefix(told, "run "+run.ID+" ended at ") {
					t.Errorf("attach showed %q and told %q", shown, told)
				}
			}
		})
	}
}

// A client that has stopped reading, as one does whose laptop sleeps, keeps neither the run's lock nor whoever
// comes after it, and what it did not take is kept.
func TestClientThatDoesNotReadTheEnd(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), deliverLimit) // before whoever waits for the client goes on
	defer cancel()
	req := onTerminal("exec seq 1 1000000")
	req.ID, req.Lock = runs.NewID(), "migrate"
	ours, _ := sleeper(t)
	if _, err := d.Start(ctx, req, runs.Handover{Conn: ours}); err != nil {
		t.Fatal(err)
	}
	takesNoMore(t, ours)
	if stopped, err := d.Stop(ctx, req.ID, 0); err != nil || stopped.ExitCode != 129 {
		t.Fatalf("stopped as %+v, %v", stopped, err)
	}
	next := onTerminal("true")
	next.Lock = req.Lock
	if _, err := d.Start(ctx, next, runs.Handover{}); err != nil {
		t.Errorf("the lock is not free: %v", err)
	}
	first, told := d.lookBack(ctx, t, req.ID, 129)
	if !strings.Contains(first, "\r\n") || told != "ended by stop\n" {
		t.Errorf("attach showed %d bytes and told %q", len(first), told)
	}
	eventually(t, "its last screen is kept", func() bool { run, err := d.Get(ctx, req.ID); return err == nil && run.OutputBytes > 0 })
	if again, _ := d.lookBack(ctx, t, req.ID, 129); again != first {
		t.Errorf("%d bytes were shown first, then %d", len(first), len(again))
	}
}

// Whoever detaches need not read what is on its way to it first: the program goes on.
func TestDetachWithoutReading(t *testing.T) {
	d := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // not for ever
	defer cancel()
	ours, theirs := sleeper(t)
	run, err := d.Start(ctx, onTerminal("exec seq 1 50000"), runs.Handover{Conn: ours})
	if err != nil {
		t.Fatal(err)
	}
	takesNoMore(t, ours)
	if err := session.WriteFrame(theirs, session.Detach, nil); err != nil {
		t.Fatal(err)
	}
	if ended, err := d.Wait(ctx, run.ID); err != nil || ended.ExitCode != 0 {
		t.Fatalf("%+v, %v", ended, err)
	}
	if shown, _ := d.lookBack(ctx, t, run.ID, 0); !strings.HasSuffix(shown, "\n50000\r\n") {
		t.Errorf("attach showed %d bytes", len(shown))
	}
}

// A client that is still being shown the scroll-back when the run ends is shown all of it, and then the exit.
// That does not keep anybody from being told of the end.
func TestExitFollowsTheScrollBack(t *testing.T) {
	d := start(t)
	fifo := t.TempDir() + "/go"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	run := d.forsaken(t, "seq 1 20000; read x <"+fifo+"; exit 7")
	var end *os.File
	eventually(t, "it has printed all", func() (ok bool) {
		var err error
		end, err = os.OpenFile(fifo, os.O_WRONLY|unix.O_NONBLOCK, 0) // while nobody reads it: ENXIO
		return err == nil
	})
	ours, theirs := sleeper(t)
	attached := make(chan error, 1)
	go func() {
		_, err := d.Attach(t.Context(), run.ID, session.Size{}, runs.Handover{Conn: ours})
		ours.Close()
		attached <- err
	}()
	takesNoMore(t, ours)
	end.Close()
	if ended, err := d.Wait(t.Context(), run.ID); err != nil || ended.ExitCode != 7 {
		t.Fatalf("%+v, %v", ended, err)
	}
	in := bufio.NewReader(theirs)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	var shown strings.Builder
	for r := (session.Reader{R: in}); ; {
		kind, p, err := r.Next()
		if err != nil {
			t.Fatalf("after %d bytes: %v", shown.Len(), err)
		}
		if kind != session.Output {
			if e, err := session.ParseExit(p); err != nil || e.Code != 7 {
				t.Errorf("told %+v, %v", e, err)
			}
			break
		}
		shown.Write(p)
	}
	if !strings.HasSuffix(shown.String(), "\n20000\r\n") {
		t.Errorf("the exit came after %d bytes", shown.Len())
	}
	if err := <-attached; err != nil {
		t.Errorf("attach: %v", err)
	}
}

// sleeper is both ends of a client's connection, the agent's and its own, that takes little.
func sleeper(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10)
	}
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "agent's end"), os.NewFile(uintptr(pair[1]), "client's end")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func takesNoMore(t *testing.T, ours *os.File) {
	t.Helper()
	eventually(t, "the client takes no more", func() (full bool) {
		_ = fdconn.Use(ours, func(fd int) error {
			queued, _ := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			room, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
			full = queued >= room
			return nil
		})
		return full
	})
}

// lookBack attaches to a run that has ended, without a terminal and from within this process: at once. It
// returns what was shown and what was said.
func (d *daemon) lookBack(ctx context.Context, t *testing.T, id string, code int) (shown, told string) {
	t.Helper()
	c, err := openSession(d.Client, func(h runs.Handover) error {
		_, err := d.Attach(ctx, id, session.Size{Rows: 33, Cols: 101}, h)
		return err
	})
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	stdout, stderr := temporary(t), temporary(t)
	got, err := c.Run(ctx, session.Options{Stdin: stdout, Stdout: stdout, Stderr: stderr})
	if err != nil || got != code {
		t.Errorf("attach ended with code %d, %v", got, err)
	}
	out, _ := os.ReadFile(stdout.Name())
	words, _ := os.ReadFile(stderr.Name())
	return string(out), string(words)
}

func temporary(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// What somebody was there to see is not written to disk.
func TestScreenThatWasSeenIsNotKept(t *testing.T) {
	d := start(t)
	req := onTerminal("echo seen; exit 3")
	s := d.terminal(t, d.client(req), 33, 101)
	s.exitCode(t, 3)
	run := d.theRun(t)
	if run.Output != "" || run.OutputBytes != 0 {
		t.Errorf("recorded as %+v", run)
	}
	d.terminal(t, d.attach(run.ID), 33, 101).exitCode(t, 3)
}
