package cron

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

const ours = "i-0123456789abcdef0"

// begunBy is the record of a run as the request of its claim has it.
func begunBy(h, lock *held) runs.Run {
	var q runs.Request
	h.request(&q, lock)
	return runs.Run{ID: "run", Slot: q.Slot, Attempt: 1, Meta: q.Meta}
}

// A run goes on under its claim where the next process cannot know its group, and from when it can know in whose name,
// however late. It was given up after a minute.
func TestAdoptedRunIsRenewedInItsOwnRegister(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	before := fleetAt(t, store, ours)
	before.group = func() (string, error) { return "blue", nil }
	f := firing(t, func(*scheduler.Job) {})
	won, err := before.claim(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	run := begunBy(won, nil)
	now, identify := unidentifiedAt(t, store, ours)
	now.group = func() (string, error) { return "", errors.New("the environment cannot be read") }
	e := &ends{}
	now.leases.runs = e
	h, _ := now.adopt(scheduler.Firing{Job: scheduler.Job{Name: "job", On: scheduler.OnAll}, Due: f.Due, Attempt: 1}, run)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if h.tryRenew(short, "run"); len(e.leases) > 0 || h.why() != nil {
		t.Fatalf("before its instance is known: %v, %v", e.leases, h.why())
	}
	identify()
	if h.tryRenew(t.Context(), "run"); len(e.leases) != 1 {
		t.Fatalf("not renewed: %v", e.leases)
	}
	now.noteResult(h, claim.Result{Attempt: 1, Outcome: "exit 0"})
	now.outcomes.writers.Wait()
	if r, err := won.store.Read(t.Context(), "job"); err != nil || r.Runs[0].Outcome != "exit 0" {
		t.Errorf("its register has %+v, %v", r.Runs, err)
	}
}

// The end of a run that was over before its store was opened is noted where it was claimed.
func TestEndOfAnAdoptedRunIsNotedInItsOwnRegister(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	before := fleetAt(t, store, ours)
	before.group = func() (string, error) { return "blue", nil }
	f := firing(t, func(*scheduler.Job) {})
	won, err := before.claim(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	now := fleetAt(t, store, ours)
	h, _ := now.adopt(f, begunBy(won, nil))
	now.noteResult(h, claim.Result{Attempt: 1, Outcome: "exit 3"})
	now.outcomes.writers.Wait()
	if r, err := won.store.Read(t.Context(), "job"); err != nil || r.Runs[0].Outcome != "exit 3" {
		t.Errorf("its register has %+v, %v", r.Runs, err)
	}
}

// Another instance judges a run by the grace that it was started with, which its supervisor keeps: so must the next
// process, whatever the cron file says by then.
func TestAdoptedRunKeepsItsGrace(t *testing.T) {
	t.Parallel()
	c, h, _, _ := heldAt(t, versity.Start(t, "bucket")[0], ours, func(j *scheduler.Job) { j.Grace = 10 * time.Minute })
	run := begunBy(h, nil)
	for _, now := range []time.Duration{0, 5 * time.Second, 11 * time.Minute} {
		f := scheduler.Firing{Job: scheduler.Job{Name: "job", Grace: now}, Due: h.slot, Attempt: 1}
		if got, _ := c.adopt(f, run); got.grace != 10*time.Minute {
			t.Errorf("the file says %s: %s", now, got.grace)
		}
		f.Job.Grace = now
		if got, _ := c.adopt(f, runs.Run{Slot: h.slot}); got.grace != now { // an older agent's
			t.Errorf("nothing is known, the file says %s: %s", now, got.grace)
		}
	}
}

// The supervisor ends a run when the first of its slot's and its lock's lease is over: either may be another's then.
func TestSupervisorGetsTheEarlierLease(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	for _, first := range []string{"slot", "lock"} {
		c, h, e, _ := heldAt(t, store, ours, func(j *scheduler.Job) { j.Name = first })
		f := firing(t, func(j *scheduler.Job) { j.Name, j.Lock, j.LockScope = first, "db"+first, scheduler.LockEnvironment })
		lock, err := c.lock(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		pair(h, lock)
		soon, renewed := map[string]*held{"slot": h, "lock": lock}[first], map[string]*held{"slot": lock, "lock": h}[first]
		soon.until = runs.BootNow() + runs.BootTime(time.Minute)
		var q runs.Request
		if h.request(&q, lock); q.Lease > time.Minute {
			t.Errorf("%s first: it begins with %s", first, q.Lease)
		}
		if renewed.tryRenew(t.Context(), "run"); len(e.leases) != 1 || e.leases[0] > time.Minute {
			t.Errorf("%s first: renewed for %s", first, e.leases)
		}
		if soon.tryRenew(t.Context(), "run"); len(e.leases) != 2 || e.leases[1] < 2*time.Minute {
			t.Errorf("%s first: both renewed for %s", first, e.leases)
		}
		soon.until = 0 // it has none
		if renewed.tryRenew(t.Context(), "run"); len(e.leases) != 3 || e.leases[2] < 2*time.Minute {
			t.Errorf("%s without a lease: the other's for %s", first, e.leases)
		}
		e.leases = nil
		a, b := c.adopt(f, begunBy(h, lock))
		a.tryRenew(t.Context(), "run")
		if len(e.leases) > 0 {
			t.Errorf("the lock's lease is not known after a restart, and the run goes on for %s", e.leases)
		}
		if b.tryRenew(t.Context(), "run"); len(e.leases) != 1 {
			t.Errorf("both are known: %s", e.leases)
		}
	}
}

// unknownAtFirst does not know a run yet when it is first asked to end it.
type unknownAtFirst struct{ ends }

func (u *unknownAtFirst) Interrupt(ctx context.Context, id, by string) (runs.Run, error) {
	u.ends.Stop(ctx, id, 0)
	if len(u.ended) == 1 {
		return runs.Run{}, runs.ErrUnknown
	}
	return runs.Run{}, nil
}

// A run that begins just when it is to end is ended all the same. It went on until its lease was over.
func TestRunThatBeginsMeanwhileIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unknownAtFirst{}
		l := &leases{runs: u, log: newCron(t, io.Discard, nil).log, held: map[*held]bool{}}
		h := &held{leases: l, job: "job"}
		h.end(t.Context(), "run", scheduler.ErrReplaced)
		h.keep("run")
		time.Sleep(time.Minute)
		h.release()
		if len(u.ended) != 2 {
			t.Errorf("asked %d times", len(u.ended))
		}
	})
}

// Another instance's file may say replace where this one's says skip: the run goes on.
func TestOnlyAReplaceJobEndsForAnother(t *testing.T) {
	t.Parallel()
	_, h, e, _ := heldAt(t, versity.Start(t, "bucket")[0], ours, func(*scheduler.Job) {})
	b := fleetAt(t, versity.Careless(t), "i-0fedcba9876543210")
	r, err := h.store.Read(t.Context(), "job")
	if err != nil {
		t.Fatal(err)
	}
	askToEnd(t.Context(), b.log, h.store.Store, firing(t, func(*scheduler.Job) {}), r.Runs[0])
	if h.tryRenew(t.Context(), "run"); len(e.ended) > 0 || len(e.leases) != 1 {
		t.Errorf("ended %v, renewed %v", e.ended, e.leases)
	}
}

// What may run without a claim may run without a lock of the environment, too.
func TestLockWithoutAStore(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scheduler.Firing)
		runs   bool
	}{
		"by default":          {func(*scheduler.Firing) {}, false},
		"on_claim_error: run": {func(f *scheduler.Firing) { f.Job.OnClaimError = scheduler.ClaimErrorRun }, true},
		"--force":             {func(f *scheduler.Firing) { f.Forced = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := firing(t, func(j *scheduler.Job) { j.Lock, j.LockScope = "db", scheduler.LockEnvironment })
			c.change(&f)
			if h, err := fleetAt(t, "http://127.0.0.1:9", "").lock(t.Context(), f); h != nil || isUnclaimed(err) == c.runs {
				t.Errorf("got %v, %v", h, err)
			}
		})
	}
}

// manyRuns is a supervisor that knows these.
type manyRuns struct {
	noSupervisor
	list []runs.Run
}

func (m manyRuns) List(context.Context, runs.Filter) ([]runs.Run, error) { return m.list, nil }

// How a run ended that a user started, and the lock that it held, are noted by the next process, too: both were lost.
func TestManualRunAndLockThatEndedWithoutAnAgent(t *testing.T) {
	t.Parallel()
	store := versity.Start(t, "bucket")[0]
	f := firing(t, func(j *scheduler.Job) { j.Lock, j.LockScope = "db", scheduler.LockEnvironment })
	f.Reason = scheduler.Manual
	before := fleetAt(t, store, ours)
	h, err := before.claimManual(t.Context(), f, false)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := before.lock(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	run := begunBy(h, lock)
	run.State, run.Lock, run.Ended, run.EndSeq = runs.StateExited, "db", time.Now(), 1
	for _, live := range []bool{true, false} {
		if run.State = runs.StateExited; live {
			run.State = runs.StateRunning
		}
		now := fleetAt(t, store, ours)
		now.runs = manyRuns{list: []runs.Run{{State: runs.StateExited, ExitCode: 3}, run}}
		now.leftoversOf(t.Context(), f.Job)
		now.releaseLocks(t.Context())
		now.outcomes.writers.Wait()
		for _, x := range []struct{ job, want string }{{"job", runs.Good}, {lockRegister("db"), "released"}} {
			r, err := h.store.Read(t.Context(), x.job)
			if live {
				x.want = ""
			}
			if err != nil || len(r.Runs) != 1 || r.Runs[0].Outcome != x.want {
				t.Errorf("live %v: %s: %+v, %v", live, x.job, r.Runs, err)
			}
		}
	}
}
