package supervisor

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// leased is a job that goes on until a file is there, whatever TERM says.
func leased(t *testing.T, lease time.Duration) (req runs.Request, goOn string) {
	goOn = filepath.Join(t.TempDir(), "go")
	req = spooled("trap '' TERM; echo ready; while [ ! -e " + goOn + " ]; do sleep 0.01; done; exit 6")
	req.ID, req.Kind, req.Name, req.Lease, req.Grace = runs.NewID(), "cron", "nightly", lease, time.Minute
	return req, goOn
}

func begin(t *testing.T, d *daemon, req runs.Request) runs.Run {
	t.Helper()
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func ended(t *testing.T, d *daemon, id string) runs.Run {
	t.Helper()
	run, err := d.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// Nobody calls the supervisor again: the agent is stopped, killed or hung.
func TestLeaseEndsARunThatNobodyRenews(t *testing.T) {
	d := start(t)
	req := spooled("exec sleep 1000")
	req.Kind, req.Lease = "cron", 300*time.Millisecond
	run := ended(t, d, begin(t, d, req).ID)
	if run.StoppedBy != "lease" || run.Signal != int(syscall.SIGTERM) || run.ExitCode != 143 || !run.Interrupted() {
		t.Errorf("ended as %+v", run)
	}
	if rec, err := readRecord(filepath.Join(d.cfg.StateDir, "runs", run.ID, "status.json")); err != nil ||
		rec.Run.StoppedBy != "lease" {
		t.Errorf("recorded as %+v, %v", rec.Run, err)
	}
}

// It outlives its first lease, by the clock that counts it.
func TestRenewedLeaseKeepsARunGoing(t *testing.T) {
	d := start(t)
	req, goOn := leased(t, 2*time.Second)
	req.LeaseFrom = runs.BootNow()
	begin(t, d, req)
	if err := d.RenewLease(t.Context(), req.ID, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	// One that was under way for long, and the same again: neither shortens what was granted.
	for range 2 {
		if err := d.RenewLease(t.Context(), req.ID, time.Second, req.LeaseFrom); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the first lease is over", func() bool { return runs.BootNow() > req.LeaseFrom+runs.BootTime(2*time.Second) })
	if run, err := d.Get(t.Context(), req.ID); err != nil || !run.Live() || run.StoppedBy != "" {
		t.Errorf("after its first lease: %+v, %v", run, err)
	}
	os.WriteFile(goOn, nil, 0o600)
	if run := ended(t, d, req.ID); run.ExitCode != 6 || run.StoppedBy != "" {
		t.Errorf("ended as %+v", run)
	}
	if err := d.RenewLease(t.Context(), req.ID, time.Hour, 0); !errors.Is(err, runs.ErrEnded) {
		t.Errorf("renewed after its end: %v", err)
	}
}

// Another instance counts on the end: no renewal that comes after it may help.
func TestLeaseThatEndedIsNotRenewed(t *testing.T) {
	d := start(t)
	req, goOn := leased(t, 200*time.Millisecond)
	begin(t, d, req)
	eventually(t, "the run is being ended", func() bool {
		run, err := d.Get(t.Context(), req.ID)
		return err == nil && run.StoppedBy == "lease"
	})
	if err := d.RenewLease(t.Context(), req.ID, time.Hour, 0); !errors.Is(err, runs.ErrLapsed) {
		t.Errorf("renewed while it is being ended: %v", err)
	}
	os.WriteFile(goOn, nil, 0o600) // within its grace
	if run := ended(t, d, req.ID); run.ExitCode != 6 || run.StoppedBy != "lease" {
		t.Errorf("ended as %+v", run)
	}
}

// What an agent that hung has asked for counts from when it was granted, not from when it comes.
func TestLeaseThatIsOverBeforeItsStart(t *testing.T) {
	d := start(t)
	req, goOn := leased(t, time.Minute)
	req.Args[2] = "touch " + goOn
	req.LeaseFrom = runs.BootNow() - runs.BootTime(2*time.Minute)
	if _, err := d.Start(t.Context(), req, runs.Handover{}); !errors.Is(err, runs.ErrLapsed) {
		t.Errorf("started: %v", err)
	}
	if list, err := d.List(t.Context(), runs.Filter{}); err != nil || len(list) > 0 {
		t.Errorf("it has left %+v, %v", list, err)
	}
	if _, err := os.Stat(goOn); err == nil {
		t.Error("the command ran")
	}
	if err := d.RenewLease(t.Context(), req.ID, time.Minute, 0); !errors.Is(err, runs.ErrUnknown) {
		t.Errorf("the lease of a run that never was is renewed: %v", err)
	}
}

// A person who gives a run longer to end cannot give it longer than its lease and its own grace.
func TestNoGraceOutlivesALease(t *testing.T) {
	d := start(t)
	req, _ := leased(t, time.Second)
	req.Grace = 100 * time.Millisecond
	out := begin(t, d, req).Output
	eventually(t, "the job to ignore TERM", func() bool {
		said, err := os.ReadFile(out)
		return err == nil && len(said) > 0
	})
	if run, err := d.Stop(t.Context(), req.ID, time.Hour); err != nil || run.Signal != int(syscall.SIGKILL) || run.StoppedBy != "stop" {
		t.Errorf("ended as %+v, %v", run, err)
	}
}

// A supervisor that was stopped past the end of a lease and the grace, as on a machine that was suspended, gives the run
// no grace again: another instance has started it by then.
func TestLeaseThatEndedWhileNobodyLooked(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 9 s")
	}
	t.Parallel()
	d := start(t)
	req, _ := leased(t, 3*time.Second)
	req.Grace = 6 * time.Second
	req.LeaseFrom = runs.BootNow()
	out := begin(t, d, req).Output
	eventually(t, "the job to ignore TERM", func() bool {
		said, err := os.ReadFile(out)
		return err == nil && len(said) > 0
	})
	d.cmd.Process.Signal(syscall.SIGSTOP)
	defer d.cmd.Process.Signal(syscall.SIGCONT)
	over := req.LeaseFrom + runs.BootTime(req.Lease+req.Grace)
	eventually(t, "the grace is over", func() bool { return runs.BootNow() > over })
	woke := time.Now()
	d.cmd.Process.Signal(syscall.SIGCONT)
	run := ended(t, d, req.ID)
	if took := time.Since(woke); took > req.Grace/2 || run.Signal != int(syscall.SIGKILL) || run.StoppedBy != "lease" {
		t.Errorf("ended %s after its supervisor woke: %+v", took, run)
	}
}

// A job may wait for its lock longer than its lease, if that is renewed meanwhile; otherwise it does not start.
func TestLeaseOfARunThatWaitsForItsLock(t *testing.T) {
	d := start(t)
	holder := spooled("exec sleep 1000")
	holder.Lock = "migrate"
	first := begin(t, d, holder)
	started, ids := map[string]chan error{}, map[string]string{}
	for _, name := range []string{"renewed", "forgotten"} {
		req, goOn := leased(t, 2*time.Second)
		os.WriteFile(goOn, nil, 0o600)
		req.Lock, req.LockWait = "migrate", time.Minute
		ids[name], started[name] = req.ID, make(chan error, 1)
		go func() {
			_, err := d.Start(t.Context(), req, runs.Handover{})
			started[name] <- err
		}()
	}
	eventually(t, "the lease is renewed before there is a run", func() bool {
		return d.RenewLease(t.Context(), ids["renewed"], time.Hour, 0) == nil
	})
	if _, err := d.Get(t.Context(), ids["renewed"]); !errors.Is(err, runs.ErrUnknown) {
		t.Errorf("there is one: %v", err)
	}
	over := runs.BootNow() + runs.BootTime(2*time.Second)
	eventually(t, "the first lease is over", func() bool { return runs.BootNow() > over })
	if _, err := d.Stop(t.Context(), first.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-started["renewed"]; err != nil {
		t.Errorf("the one whose lease was renewed: %v", err)
	}
	if err := <-started["forgotten"]; !errors.Is(err, runs.ErrLapsed) {
		t.Errorf("the one whose lease was over: %v", err)
	}
	if run := ended(t, d, ids["renewed"]); run.ExitCode != 6 {
		t.Errorf("ended as %+v", run)
	}
}

func TestLeasesThatAreRefused(t *testing.T) {
	d := start(t)
	bare := begin(t, d, spooled("exec sleep 1000"))
	if err := d.RenewLease(t.Context(), bare.ID, time.Minute, 0); !errors.Is(err, runs.ErrNoLease) {
		t.Errorf("a run without one: %v", err)
	}
	if err := d.RenewLease(t.Context(), "nobody", time.Minute, 0); !errors.Is(err, runs.ErrUnknown) {
		t.Errorf("no such run: %v", err)
	}
	req, goOn := leased(t, time.Hour)
	defer os.WriteFile(goOn, nil, 0o600)
	begin(t, d, req)
	for _, length := range []time.Duration{0, -1, runs.MaxLease + 1} {
		err := d.RenewLease(t.Context(), req.ID, length, 0)
		if r, ok := errors.AsType[*runs.Refused](err); !ok || r.Status != 400 {
			t.Errorf("a renewal for %s: %v", length, err)
		}
		bad := spooled("true")
		if bad.Lease = length; length != 0 {
			if _, err := d.Start(t.Context(), bad, runs.Handover{}); err == nil {
				t.Errorf("a start with a lease of %s is granted", length)
			}
		}
	}
}
