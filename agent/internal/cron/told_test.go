package cron

import (
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// An instance that reports what became of another's run has that noted in the register, so that no other does. What one
// that was killed first has not reported is left to another.
func TestOneThatIsKilledBeforeItsReportLeavesItToAnother(t *testing.T) {
	t.Parallel()
	never := func(*testing.T, *fleet, scheduler.Firing) {}
	for name, c := range map[string]struct {
		dies     bool
		becomes  func(*testing.T, *fleet, scheduler.Firing) // of the run
		notices  func(*testing.T, *fleet, scheduler.Firing)
		nextSlot bool // another claims it, in place of a look
	}{
		"reported":                         {false, never, lookAtIt, false},
		"killed":                           {true, never, lookAtIt, false},
		"killed, then the next slot":       {true, never, lookAtIt, true},
		"killed in a claim":                {true, never, claimNext, false},
		"a missed slot, reported":          {false, isInterrupted, lookAtIt, false},
		"a missed slot, killed":            {true, isInterrupted, lookAtIt, false},
		"a missed slot, then the next one": {true, isInterrupted, lookAtIt, true},
	} {
		var ahead atomic.Int64
		store := late(t, versity.Careless(t), &ahead)
		owner, a, b := fleetAt(t, store, theirs), fleetAt(t, store, ours), fleetAt(t, store, "i-0aaaaaaaaaaaaaaaa")
		reports := 0
		for _, x := range []*fleet{a, b} {
			x.losses.report = func(_ string, r claim.Run) {
				if r.Owner == theirs {
					reports++
				}
			}
			x.losses.missed = func(string, claim.Run, string) { reports++ }
		}
		if c.dies {
			a.losses.report, a.losses.missed = func(string, claim.Run) {}, func(string, claim.Run, string) {}
			a.losses.told = func(*groupStore, string) {}
		}
		slot := firing(t, func(j *scheduler.Job) { j.OnOwnerLoss = scheduler.OwnerLossRerun })
		if _, err := owner.claim(t.Context(), slot); err != nil {
			t.Fatal(err)
		}
		c.becomes(t, owner, slot)
		ahead.Store(int64(2 * time.Hour)) // older than is run again
		c.notices(t, a, slot)
		a.outcomes.writers.Wait()
		lookAtIt(t, b, slot)
		if c.dies && (reports != 0 || len(b.losses.looks) == 0) {
			t.Errorf("%s: reported %d times by the other at once, which looks again: %v", name, reports, b.losses.looks)
		}
		ahead.Add(int64(6 * time.Minute))
		if c.nextSlot {
			claimNext(t, b, slot)
		}
		lookAtIt(t, b, slot)
		b.outcomes.writers.Wait()
		ahead.Add(int64(6 * time.Minute))
		lookAtIt(t, b, slot)
		if reports != 1 {
			t.Errorf("%s: reported %d times", name, reports)
		}
	}
}

func lookAtIt(t *testing.T, x *fleet, f scheduler.Firing) {
	clear(x.losses.looks)
	x.losses.look(t.Context(), f.Job, func(scheduler.Job, claim.Run) {})
}

func claimNext(t *testing.T, x *fleet, f scheduler.Firing) {
	f.Due = f.Due.Add(time.Minute)
	if _, err := x.claim(t.Context(), f); err != nil {
		t.Error(err)
	}
}

func isInterrupted(_ *testing.T, x *fleet, f scheduler.Firing) {
	write(x, f, "interrupted: shutdown")
	x.outcomes.writers.Wait()
}
