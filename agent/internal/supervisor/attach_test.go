//go:build linux

package supervisor

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
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
func (d *daemon) forsaken(t *testing.T, line string) Run {
	t.Helper()
	req := onTerminal("echo up; " + line)
	req.ID = newID()
	s := d.terminal(t, d.client(req), 33, 101)
	s.expect(t, "up")
	s.cmd.Process.Kill()
	var run Run
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
