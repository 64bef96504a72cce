package claim

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func byHand(overlap Overlap) Request {
	q := alone(time.Time{}, overlap)
	q.Manual = true
	return q
}

// A run that a user starts is in the way like any other, and any other is in its way, unless the user insists. It never has
// the slot of a scheduled one, which must not be left out for it.
func TestManualRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		o := claimed(t, ss[0], byHand(Skip), Won)
		if !o.Run.Manual || o.Run.Slot.Nanosecond() == 0 || o.LeaseUntil == 0 {
			t.Errorf("%+v", o)
		}
		if o := claimed(t, ss[1], byHand(Skip), Busy); o.By.Owner != "i-0" || !o.By.Manual {
			t.Errorf("%+v", o.By)
		}
		second := time.Now().Truncate(time.Second)
		claimed(t, ss[1], alone(second, Skip), Busy)
		forced := byHand(Skip)
		forced.Force = true
		flaky(f, 1)
		f.before = func(w http.ResponseWriter, r *http.Request) bool { // one lost answer
			if r.Method == http.MethodGet {
				f.after = nil
			}
			return false
		}
		two := claimed(t, ss[1], forced, Won)
		if two.Run.Slot.Equal(o.Run.Slot) {
			t.Error("two have one slot")
		}
		claimed(t, ss[1], byHand(Allow), Won)
		for _, run := range []struct {
			s    *Store
			slot time.Time
		}{{ss[0], o.Run.Slot}, {ss[1], two.Run.Slot}} {
			if _, err := run.s.Renew(t.Context(), "job", run.slot, 0); err != nil {
				t.Error(err)
			}
			if err := run.s.Finish(t.Context(), "job", run.slot, Result{Outcome: "exit 0"}); err != nil {
				t.Error(err)
			}
		}
		claimed(t, ss[1], alone(second, Skip), Won)
		f.before = abort
		if _, err := ss[0].Claim(t.Context(), byHand(Skip)); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	})
}

// A further attempt at a manual run has its slot, and not the scheduled one of that second.
func TestAFurtherAttemptAtAManualRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 1)
		o := claimed(t, ss[0], byHand(Skip), Won)
		ss[0].Finish(t.Context(), "job", o.Run.Slot, Result{Outcome: "exit 1"})
		q := byHand(Skip)
		q.Slot, q.Attempt = o.Run.Slot, 2
		again := claimed(t, ss[0], q, Won)
		if r, _ := ss[0].Read(t.Context(), "job"); len(r.Runs) != 1 || !again.Run.Slot.Equal(o.Run.Slot) {
			t.Errorf("%+v", r.Runs)
		}
	})
}

// A run in progress never leaves the register, in which it would be in no other's way: not for sixteen that users insist on.
func TestARunInProgressStaysListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 1)
		claimed(t, ss[0], alone(minute(0), Skip), Won)
		forced := byHand(Skip)
		forced.Force = true
		for range keptRuns - 1 {
			claimed(t, ss[0], forced, Won)
		}
		for _, q := range []Request{forced, byHand(Allow), alone(minute(1), Allow)} {
			if o := claimed(t, ss[0], q, Busy); !o.By.Slot.Equal(minute(0)) {
				t.Errorf("%+v", o.By)
			}
		}
		claimed(t, ss[0], beside(minute(-1)), Superseded)
		ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"})
		claimed(t, ss[0], alone(minute(1), Allow), Won)
	})
}

// The lease never lasts beyond what the job's time limit allows, however often it is renewed: the owner and all others see
// the same limit, that of the run and not of the file of today.
func TestALeaseEndsWithTheTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		q := alone(minute(0), Skip)
		q.Timeout, q.LockWait = 10*time.Minute, time.Minute
		begin := time.Now()
		var until time.Duration
		for o := claimed(t, ss[0], q, Won); ; time.Sleep(RenewEvery) {
			r, err := ss[0].Renew(t.Context(), "job", minute(0), q.Grace)
			if err != nil {
				break
			}
			if r.LeaseUntil < max(until, o.LeaseUntil) {
				t.Fatalf("a renewal made it shorter: %s, %s", until, r.LeaseUntil)
			}
			if until = r.LeaseUntil; until < ss[0].s3.clock.boot() {
				break
			}
		}
		most := q.LockWait + q.Timeout + lease
		if took := time.Since(begin); took < most || took > most+lease {
			t.Errorf("renewed for %s, want %s", took, most)
		}
		short := alone(minute(30), Skip)
		short.Timeout = time.Second
		time.Sleep(time.Until(begin.Add(most)))
		claimed(t, ss[1], short, Won)
	})
}

// A claim that was written before the pause has won; a slot that another has run is Lost and not Paused.
func TestAPauseDoesNotUndoAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 3)
		paused := false
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || paused {
				return false
			}
			paused = true
			if err := ss[1].SetPause(t.Context(), "job", &Pause{By: "ops"}); err != nil {
				t.Error(err)
			}
			return abort(w, r) // of the claim
		}
		claimed(t, ss[0], alone(minute(0), Skip), Won)
		claimed(t, ss[2], alone(minute(0), Skip), Lost)
		claimed(t, ss[2], alone(minute(1), Allow), Paused)
		if _, err := ss[0].Renew(t.Context(), "job", minute(0), 0); err != nil {
			t.Errorf("a run in progress ends with a pause: %v", err)
		}
		r, err := ss[0].Read(t.Context(), "job")
		if err != nil || r.Paused == nil || len(r.Live(ss[0].Now())) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
