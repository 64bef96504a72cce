package claim

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// alone is a claim that runs in progress are in the way of.
func alone(slot time.Time, overlap Overlap) Request {
	q := beside(slot)
	q.Overlap, q.Grace = overlap, 5*time.Second
	return q
}

func minute(n int) time.Time { return firstSlot.Add(time.Duration(n) * time.Minute) }

func claimed(t *testing.T, s *Store, q Request, want State) Outcome {
	t.Helper()
	o, err := s.Claim(t.Context(), q)
	if err != nil || o.State != want {
		t.Fatalf("%s, slot %s: got %q, %v, want %q", s.config.Owner, q.Slot, o.State, err, want)
	}
	return o
}

// While a run is in progress anywhere no other starts; when its owner is not heard any more, it is lost, which exactly
// one other reports.
func TestARunInProgressIsInTheWayUntilItsLeaseHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 3)
		begin := time.Now()
		won := claimed(t, ss[0], alone(minute(0), Skip), Won)
		if left := won.LeaseUntil - ss[0].s3.clock.boot(); left > lease || left < lease-10*time.Second {
			t.Errorf("the lease ends in %s", left)
		}
		if o := claimed(t, ss[1], alone(minute(1), Skip), Busy); o.By.Owner != "i-0" || o.Again < lease || o.Again > lease+time.Minute {
			t.Errorf("busy by %+v for %s", o.By, o.Again)
		}
		time.Sleep(2 * time.Minute)
		if r, err := ss[0].Renew(t.Context(), "job", minute(0), 5*time.Second); err != nil || r.ReplacedBy != "" {
			t.Fatal(r, err)
		}
		time.Sleep(time.Until(begin.Add(lease + time.Minute)))
		claimed(t, ss[1], alone(minute(2), Skip), Busy) // the renewed lease goes on
		time.Sleep(3 * time.Minute)
		o := claimed(t, ss[1], alone(minute(3), Skip), Won)
		if len(o.Expired) != 1 || o.Expired[0].Owner != "i-0" || !strings.HasPrefix(o.Expired[0].Outcome, "lost: no word from i-0 since 2000-01-01T00:02:") {
			t.Errorf("lost: %+v", o.Expired)
		}
		if o := claimed(t, ss[2], alone(minute(4), Skip), Busy); o.By.Owner != "i-1" || len(o.Expired) > 0 {
			t.Errorf("%+v", o)
		}
		if _, err := ss[0].Renew(t.Context(), "job", minute(0), 0); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("a lost run is renewed beside another: %v", err)
		}
		if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"}); err != nil {
			t.Error(err)
		}
		if r, _ := ss[1].Read(t.Context(), "job"); r.Runs[1].Outcome != "exit 0" || r.Runs[1].LostBy != "" {
			t.Errorf("how it ended does not replace its loss: %+v", r.Runs[1])
		}
	})
}

func TestPauseIsObeyedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		if err := ss[0].SetPause(t.Context(), "job", &Pause{By: "ops"}); err != nil { // before any claim
			t.Fatal(err)
		}
		if err := ss[1].SetPause(t.Context(), "job", &Pause{By: "another"}); err != nil {
			t.Fatal(err)
		}
		for _, s := range ss {
			if o := claimed(t, s, alone(minute(0), Skip), Paused); o.Paused.By != "ops" || time.Since(o.Paused.Since) > time.Minute {
				t.Errorf("%+v", o.Paused)
			}
		}
		manual := alone(time.Time{}, Skip)
		manual.Manual = true
		o := claimed(t, ss[0], manual, Won)
		if err := ss[0].Finish(t.Context(), "job", o.Run.Slot, Result{Outcome: "exit 0"}); err != nil || !o.Run.Manual {
			t.Error(o.Run, err)
		}
		if err := ss[1].SetPause(t.Context(), "job", nil); err != nil {
			t.Fatal(err)
		}
		claimed(t, ss[0], alone(minute(1), Skip), Won)
	})
}

func contextOf(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// A run that nothing keeps others from beside has no lease: after a restart of its agent it must not get one, with
// which a partition would end it.
func TestRenewalGivesNoLeaseToARunWithoutOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		claimed(t, ss[0], alone(minute(0), Allow), Won)
		before, err := ss[0].Read(t.Context(), "job")
		if err != nil {
			t.Fatal(err)
		}
		r, err := ss[0].Renew(t.Context(), "job", minute(0), 5*time.Second)
		if after, _ := ss[0].Read(t.Context(), "job"); err != nil || r.LeaseUntil != 0 || !reflect.DeepEqual(after, before) {
			t.Errorf("%+v, %v: %+v", r, err, after.Runs)
		}
		claimed(t, ss[1], alone(minute(1), Skip), Won) // of another cron file
		if _, err := ss[1].Renew(t.Context(), "job", minute(0), 0); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("another instance's: %v", err)
		}
	})
}
