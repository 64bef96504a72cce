package cron

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

const theirs = "i-0fedcba9876543210"

// interrupted is a slot that was interrupted on another instance, and the firing that takes it over.
func interruptedThere(t *testing.T, store string) (slot, again scheduler.Firing) {
	t.Helper()
	dead := fleetAt(t, store, theirs)
	slot = firing(t, func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun })
	if _, err := dead.claim(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	write(dead, slot, "interrupted: shutdown")
	again = slot
	again.Attempt = 2
	return slot, again
}

// A slot that was taken over by an agent that ended before the run's start is nobody's to run again: the next process of
// its instance reports it, once. Of one that it claimed itself the scheduler knows, and of one that ran its record.
func TestSlotThatWasTakenOverAndNotStartedIsReported(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes, ran bool
		want       int
	}{
		"taken over, and not started": {true, false, 1},
		"taken over, and it ran":      {true, true, 0},
		"its own":                     {false, false, 0},
	} {
		store, missed := versity.Start(t, "bucket")[0], 0
		slot, again := interruptedThere(t, store)
		before := fleetAt(t, store, ours)
		if c.takes {
			if _, _, err := before.takeOver(t.Context(), again); err != nil {
				t.Fatal(err)
			}
		} else if slot.Due = slot.Due.Add(time.Second); true {
			if _, err := before.claim(t.Context(), slot); err != nil {
				t.Fatal(err)
			}
		}
		a := fleetAt(t, store, ours) // its next process
		if c.ran {
			a.runs = oneRun{id: runs.SlotID("job", slot.Due, 2), run: runs.Run{State: runs.StateExited}}
		}
		a.losses.missed = func(_ string, r claim.Run, _ string) { missed++ }
		for range 2 {
			slot.Due = slot.Due.Add(time.Second)
			if _, err := a.claim(t.Context(), slot); err != nil {
				t.Fatal(err)
			}
			a.outcomes.writers.Wait()
			write(a, slot, "exit 0")
		}
		if missed != c.want {
			t.Errorf("%s: reported %d times, want %d", name, missed, c.want)
		}
	}
}

// What a takeover writes of other lost runs, and a claim of a lock, is reported by whoever wrote it.
func TestLossesThatATakeoverNotesAreReported(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	store := late(t, versity.Start(t, "bucket")[0], &ahead)
	slot, again := interruptedThere(t, store)
	dead := fleetAt(t, store, theirs)
	slot.Job.Lock, slot.Job.LockScope = "db", scheduler.LockEnvironment
	if _, err := dead.lock(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	manual := slot
	manual.Reason = scheduler.Manual
	if _, err := dead.claimManual(t.Context(), manual, true); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(10 * time.Minute))
	a, reported := fleetAt(t, store, ours), map[string]int{}
	a.losses.report = func(job string, _ claim.Run) { reported[job]++ }
	if _, _, err := a.takeOver(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if _, err := a.lock(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	if reported["job"] != 1 || reported[lockRegister("db")] != 1 {
		t.Errorf("reported %v", reported)
	}
}

// Where no claim can be made a lost slot is looked at again. It is no failed attempt: a retry of this instance's would
// find the slot another's, and report that.
func TestTakeoverWithoutAnswerIsNoAttempt(t *testing.T) {
	t.Parallel()
	c := newCron(t, io.Discard, nil)
	c.fleet = fleetAt(t, "http://127.0.0.1:9", ours)
	c.fleet.group = func() (string, error) { return "", errors.New("CRON_GROUP cannot be read yet") }
	running(t, c, "cron:\n- {name: job, schedule: '0 0 1 1 *', command: x, retries: 3, on_owner_loss: rerun}\n")
	job, _ := c.watcher.State().Table.Job("job")
	c.rerun(job, claim.Run{Slot: time.Now().Truncate(time.Second), Owner: theirs, Outcome: "interrupted: shutdown"})
	until(t, "it is over", func() bool {
		st := c.sched.Snapshot()[0]
		return st.Counts.Elsewhere+st.Counts.Failed > 0
	})
	if st := c.sched.Snapshot()[0]; st.Counts.Failed > 0 || !st.Retry.IsZero() {
		t.Errorf("%+v", st)
	}
	until(t, "it is looked at again", func() bool { return len(c.fleet.losses.planned()) == 1 })
}

// A slot that was taken over and waits for its lock is dropped when its job is paused, and that is reported: the
// interrupted run's instance does not, nor does any other run it again.
func TestSlotThatWasTakenOverAndIsDroppedIsReported(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[string]int64{"interrupted: shutdown": 1, "lost: no word from it": 0} {
		store := versity.Start(t, "bucket")[0]
		slot, _ := interruptedThere(t, store)
		asked := make(chan bool, 1)
		c := newCron(t, io.Discard, func(cfg *Config) {
			cfg.Begin = func(ctx context.Context, _ appenv.ProfileOptions, _ runs.Request) (runs.Run, func() (runs.Run, error), error) {
				asked <- true
				<-ctx.Done()
				return runs.Run{}, nil, context.Cause(ctx)
			}
		})
		c.fleet = fleetAt(t, store, ours)
		running(t, c, "cron:\n- {name: job, schedule: '0 0 1 1 *', command: x, lock: db, on_owner_loss: rerun}\n")
		job, _ := c.watcher.State().Table.Job("job")
		c.rerun(job, claim.Run{Slot: slot.Due, Owner: theirs, Outcome: outcome})
		<-asked
		if err := c.sched.Pause("job"); err != nil {
			t.Fatal(err)
		}
		until(t, "it is dropped", func() bool { return len(c.sched.Snapshot()[0].Running) == 0 })
		if n := c.counts.missed.Load(); n != want {
			t.Errorf("%s: reported %d times, want %d", outcome, n, want)
		}
	}
}
