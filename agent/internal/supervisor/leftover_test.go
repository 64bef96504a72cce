package supervisor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// leaves is a job whose command, a shell, ends at a TERM while the child that it waits for goes on, as
// "python manage.py a; python manage.py b" has it. pid is the child's, once that ignores TERM.
func leaves(t *testing.T, kind string) (req runs.Request, pid func() int) {
	file := filepath.Join(t.TempDir(), "pid")
	req = spooled("sh -c 'trap \"\" TERM; echo $$ >" + file + ".new; mv " + file + ".new " + file +
		"; while :; do sleep 0.02; done'; true")
	req.ID, req.Kind, req.Name, req.Grace = runs.NewID(), kind, "nightly", time.Second
	return req, func() (pid int) {
		eventually(t, "the child works", func() bool {
			text, err := os.ReadFile(file)
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			return err == nil && pid > 0
		})
		return pid
	}
}

// What the register learns of the end of a job's run lets its next one start, on any instance: it learns that when the
// last process has ended, not the command alone.
func TestJobHasEndedWithWhatItLeftBehind(t *testing.T) {
	d := start(t)
	for name, c := range map[string]struct {
		kind    string
		end     func(id string, child int)
		alive   bool
		stopped string
	}{
		"a job that is replaced":        {"cron", func(id string, _ int) { go d.Interrupt(t.Context(), id, runs.StoppedReplaced) }, false, "replaced"},
		"a job whose command is killed": {"cron", func(id string, _ int) { d.Signal(t.Context(), id, syscall.SIGKILL) }, false, ""},
		"an exec":                       {"exec", func(id string, _ int) { d.Signal(t.Context(), id, syscall.SIGKILL) }, true, ""},
	} {
		req, pid := leaves(t, c.kind)
		_, wait, err := d.Begin(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		child := pid()
		c.end(req.ID, child)
		run, err := wait() // as the agent does
		if err != nil || run.StoppedBy != c.stopped || run.Live() {
			t.Errorf("%s: ended as %+v, %v", name, run, err)
		}
		if alive(child) != c.alive {
			t.Errorf("%s: when it has ended its child works on: %v, want %v", name, alive(child), c.alive)
		}
		if run, err = d.Wait(t.Context(), req.ID); err != nil || run.Live() { // as the next agent process does
			t.Errorf("%s: ended as %+v, %v", name, run, err)
		}
		syscall.Kill(child, syscall.SIGKILL)
	}
}

// The timeout of a job does the same, and its lock is free when it has ended.
func TestLockIsFreeWhenAJobHasEnded(t *testing.T) {
	d := start(t)
	req, _ := leaves(t, "cron")
	req.Lock, req.Timeout = "db", 300*time.Millisecond
	begin(t, d, req)
	if run := ended(t, d, req.ID); !run.TimedOut {
		t.Errorf("ended as %+v", run)
	}
	next, _ := leaves(t, "cron")
	next.Args, next.Lock = []string{"true"}, "db"
	if _, err := d.Start(t.Context(), next, runs.Handover{}); err != nil {
		t.Error(err)
	}
}

// So does what asks for it when the command has ended already, and what ends it for the next run.
func TestJobWhoseCommandHasEndedIsWaitedFor(t *testing.T) {
	d := start(t)
	for name, ask := range map[string]func(id string) error{
		"wait": func(id string) error { _, err := d.Wait(t.Context(), id); return err },
		"end":  func(id string) error { _, err := d.Interrupt(t.Context(), id, runs.StoppedReplaced); return err },
	} {
		req, pid := leaves(t, "cron")
		begin(t, d, req)
		child := pid()
		killCommand(t, d, req.ID)
		if err := ask(req.ID); err != nil || alive(child) {
			t.Errorf("%s: %v, its child works on: %v", name, err, alive(child))
		}
	}
}

// killCommand ends the command of a run, not what that started.
func killCommand(t *testing.T, d *daemon, id string) {
	t.Helper()
	for e, err := range d.Events(t.Context(), 0) {
		switch {
		case err != nil:
			t.Fatal(err)
		case e.Run.ID == id && e.Type == runs.EventStarted:
			d.Signal(t.Context(), id, syscall.SIGKILL)
		case e.Run.ID == id:
			return
		}
	}
}

// An agent that starts meanwhile finds such a run among those that go on, by its id and in the list, renews its lease and
// waits for it. Only then is it one that has ended, with the end that was reported when its command did.
func TestJobIsLiveUntilItsLastProcessHasEnded(t *testing.T) {
	d := start(t)
	listed := func(f runs.Filter, id string) (n int, live bool) {
		list, err := d.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range list {
			if run.ID == id {
				n++
				live = run.Live()
			}
		}
		return n, live
	}
	for _, kind := range []string{"cron", "exec"} {
		job := kind == "cron"
		req, pid := leaves(t, kind)
		if job {
			req.Lease = time.Minute
		}
		begin(t, d, req)
		child := pid()
		killCommand(t, d, req.ID)
		run, err := d.Get(t.Context(), req.ID)
		if err != nil || run.Live() != job || run.Ended.IsZero() != job || (run.Signal == 0) != job {
			t.Errorf("%s: %+v, %v", kind, run, err)
		}
		if n, live := listed(runs.Filter{}, req.ID); n != 1 || live != job {
			t.Errorf("%s: listed %d times, live: %v", kind, n, live)
		}
		if n, _ := listed(runs.Filter{Live: true, Kind: kind}, req.ID); (n == 1) != job {
			t.Errorf("%s: listed %d times as live", kind, n)
		}
		if err := d.RenewLease(t.Context(), req.ID, time.Minute, 0); (err == nil) != job {
			t.Errorf("%s: a lease: %v", kind, err)
		}
		if err := d.Signal(t.Context(), req.ID, syscall.SIGUSR1); err == nil {
			t.Errorf("%s: a command that has ended took a signal", kind)
		}
		if job {
			if run, err = d.Wait(t.Context(), req.ID); err != nil || alive(child) {
				t.Errorf("%v, its child works on: %v", err, alive(child))
			}
		}
		if n, live := listed(runs.Filter{}, req.ID); n != 1 || live || run.Signal != int(syscall.SIGKILL) {
			t.Errorf("%s: then listed %d times, live: %v, ended by %d", kind, n, live, run.Signal)
		}
		syscall.Kill(child, syscall.SIGKILL)
	}
}
