package claim

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// each lets every store do something at once.
func each(ss []*Store, do func(*Store)) {
	var all sync.WaitGroup
	for _, s := range ss {
		all.Go(func() { do(s) })
	}
	all.Wait()
}

// flaky loses the answers to some writes after they took effect.
func flaky(f *fakeS3, every int) {
	var n atomic.Int32
	f.after = func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && int(n.Add(1))%every == 0 && abort(w, r)
	}
}

// Five instances look after a dead owner's lease at once, through a network that loses answers: one of them reports the
// loss.
func TestOneReportsALoss(t *testing.T) {
	for every := 1; every < 4; every++ {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 6)
			claimed(t, ss[5], alone(minute(0), Skip), Won)
			if lost, _, again, err := ss[0].NoteLost(t.Context(), "job"); len(lost) > 0 || again < lease || err != nil {
				t.Errorf("while it runs: %v, %s, %v", lost, again, err)
			}
			time.Sleep(lease + time.Minute)
			var n atomic.Int32
			f.after = func(w http.ResponseWriter, r *http.Request) bool { // the first writes lose their answers
				return r.Method == http.MethodPut && int(n.Add(1)) <= every && abort(w, r)
			}
			var mu sync.Mutex
			var lost []Run
			each(ss[:5], func(s *Store) {
				l, _, _, err := s.NoteLost(t.Context(), "job")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				lost = append(lost, l...)
				mu.Unlock()
			})
			if len(lost) != 1 || !strings.HasPrefix(lost[0].Outcome, "lost: no word from i-5 since ") {
				t.Errorf("reported: %+v", lost)
			}
		})
	}
}

// A claim whose write lost its answer still knows which losses it has written, and that its lease began with the write.
func TestAClaimThatLostItsAnswerKnowsWhatItWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		claimed(t, ss[0], alone(minute(0), Skip), Won)
		time.Sleep(lease + time.Minute)
		begin := ss[1].s3.clock.boot()
		var written time.Duration
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			return written > 0 && ss[1].s3.clock.boot()-begin < 40*time.Second && abort(w, r)
		}
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				written = ss[1].s3.clock.boot()
				return abort(w, r)
			}
			return false
		}
		o := claimed(t, ss[1], alone(minute(1), Skip), Won)
		if now := ss[1].s3.clock.boot(); now-begin < 40*time.Second || o.LeaseUntil > written+lease+time.Second || o.LeaseUntil < written+lease-10*time.Second {
			t.Errorf("written at %s, known at %s, the lease ends at %s", written, now, o.LeaseUntil)
		}
		if len(o.Expired) != 1 || o.Expired[0].Owner != "i-0" {
			t.Errorf("lost: %+v", o.Expired)
		}
	})
}

// A lost run's slot is taken over by one instance, once; its old owner, if it lives, learns that it is not its own.
func TestALostRunIsTakenOverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 4)
		q := alone(minute(0), Skip)
		claimed(t, ss[0], q, Won)
		if o, err := ss[1].TakeOver(t.Context(), q); err != nil || o.State != Busy || o.Again < lease {
			t.Errorf("while it runs: %+v, %v", o, err)
		}
		takeOver := func() (won []Outcome, by string) {
			var mu sync.Mutex
			each(ss[1:], func(s *Store) {
				o, err := s.TakeOver(t.Context(), q)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case o.State == Won:
					won, by = append(won, o), s.config.Owner
				case o.State != Busy && o.State != Lost:
					t.Errorf("%s: %s", s.config.Owner, o.State)
				}
			})
			return won, by
		}
		time.Sleep(lease + time.Minute)
		flaky(f, 2)
		won, by := takeOver()
		if len(won) != 1 || len(won[0].Expired) != 1 || won[0].Expired[0].Owner != "i-0" || won[0].Run.TakenFrom != "i-0" || won[0].Run.Attempt != 2 || won[0].LeaseUntil == 0 {
			t.Fatalf("%+v", won)
		}
		f.after = nil
		if err := ss[0].Finish(t.Context(), "job", q.Slot, Result{Outcome: "exit 0"}); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("the old owner's end: %v", err)
		}
		if _, err := ss[0].Renew(t.Context(), "job", q.Slot, 0); !errors.Is(err, ErrNotRecorded) {
			t.Errorf("the old owner's lease: %v", err)
		}
		again := q
		again.Attempt = 2
		if o := claimed(t, ss[0], again, Lost); o.By.Owner != by {
			t.Errorf("the old owner's second attempt: %+v", o)
		}
		time.Sleep(lease + time.Minute) // the second owner dies, too: what it runs may be what kills
		if won, _ := takeOver(); len(won) > 0 {
			t.Errorf("taken over again: %+v", won)
		}
	})
}

// A later slot stands for a lost one from when it is claimed, also where that has ended before anybody takes the lost one
// over; a run that a user starts stands for none.
func TestNothingIsTakenOverAfterALaterSlot(t *testing.T) {
	for name, c := range map[string]struct {
		later Request
		want  State
	}{
		"a later slot":  {alone(minute(1), Skip), Superseded},
		"an older slot": {alone(minute(-1), Skip), Won},
		"a manual run":  {Request{Job: "job", Manual: true, Window: window}, Won},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, ss := fleet(t, 3)
			claimed(t, ss[0], alone(minute(0), Skip), Won)
			time.Sleep(lease + time.Minute)
			o := claimed(t, ss[1], c.later, Won)
			if err := ss[1].Finish(t.Context(), "job", o.Run.Slot, Result{Outcome: "exit 0"}); err != nil {
				t.Fatal(err)
			}
			if o, err := ss[2].TakeOver(t.Context(), alone(minute(0), Skip)); err != nil || o.State != c.want {
				t.Errorf("%s: %+v, %v", name, o, err)
			}
		})
	}
}

// An instance that knows how its run ended, and could not write it in time, does not report it as lost.
func TestAnEndThatIsKnownIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 1)
		claimed(t, ss[0], alone(minute(0), Skip), Won)
		ss[0].Ended("job", minute(0), Result{Outcome: "exit 0"})
		time.Sleep(lease + time.Minute)
		if lost, _, again, err := ss[0].NoteLost(t.Context(), "job"); len(lost) > 0 || again != 0 || err != nil {
			t.Errorf("lost %v, again in %s, %v", lost, again, err)
		}
		if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"}); err != nil {
			t.Error(err)
		}
		if r, _ := ss[0].Read(t.Context(), "job"); r.Runs[0].Outcome != "exit 0" {
			t.Errorf("%+v", r.Runs[0])
		}
	})
}

// A run again on another instance counts as an attempt. Whichever comes first, the owner's own retry or that, the slot has
// each attempt once, and what is left of them is the second owner's.
func TestARunAgainCountsAsAnAttempt(t *testing.T) {
	for _, retriedFirst := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			_, ss := fleet(t, 2)
			q := alone(minute(0), Skip)
			attempt := func(n int) Request { r := q; r.Attempt = n; return r }
			claimed(t, ss[0], q, Won)
			time.Sleep(lease + time.Minute)
			if lost, _, _, err := ss[1].NoteLost(t.Context(), "job"); len(lost) != 1 || err != nil {
				t.Fatal(lost, err)
			}
			n := 2
			if retriedFirst { // and is lost, too
				claimed(t, ss[0], attempt(2), Won)
				if o, err := ss[1].TakeOver(t.Context(), q); err != nil || o.State != Busy {
					t.Errorf("beside the retry: %+v, %v", o, err)
				}
				time.Sleep(lease + time.Minute)
				n = 3
			}
			o, err := ss[1].TakeOver(t.Context(), q)
			if err != nil || o.State != Won || o.Run.Attempt != n {
				t.Fatalf("%+v, %v", o, err)
			}
			ss[1].Finish(t.Context(), "job", q.Slot, Result{Attempt: n, Outcome: "exit 1"})
			for a := 2; a <= n+1; a++ {
				claimed(t, ss[0], attempt(a), Lost)
			}
			claimed(t, ss[1], attempt(n+1), Won)
		})
	}
}

// What an instance ended for a reason of its own need not wait for a lease; what ended is not run again.
func TestAnInterruptedRunIsTakenOver(t *testing.T) {
	for outcome, want := range map[string]State{Interrupted + ": shutdown": Won, "exit 0": Lost, "exit 1": Lost} {
		synctest.Test(t, func(t *testing.T) {
			_, ss := fleet(t, 2)
			q := alone(minute(0), Skip)
			claimed(t, ss[0], q, Won)
			if err := ss[0].Finish(t.Context(), "job", q.Slot, Result{Outcome: outcome}); err != nil {
				t.Fatal(err)
			}
			if o, err := ss[1].TakeOver(t.Context(), q); err != nil || o.State != want || len(o.Expired) > 0 {
				t.Errorf("%s: %+v, %v", outcome, o, err)
			}
		})
	}
}

// A further attempt has the slot's entry again, unless another run is in progress or the job was paused meanwhile. The end
// of the attempt before may be written late: it does not end the new one.
func TestFurtherAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		first, second := alone(minute(0), Skip), alone(minute(0), Skip)
		second.Attempt = 2
		won := claimed(t, ss[0], first, Won)
		flaky(f, 2)
		o := claimed(t, ss[0], second, Won) // the end of the first is not written yet
		if o.Run.Attempt != 2 || o.Run.Nonce != won.Run.Nonce || o.LeaseUntil == 0 {
			t.Errorf("%+v", o.Run)
		}
		if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Attempt: 1, Outcome: "exit 1"}); err != nil {
			t.Error(err)
		}
		claimed(t, ss[1], alone(minute(1), Skip), Busy)
		if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Attempt: 2, Outcome: "exit 2"}); err != nil {
			t.Error(err)
		}
		f.after = nil
		third := second
		third.Attempt = 3
		other := claimed(t, ss[1], alone(minute(1), Skip), Won)
		if o := claimed(t, ss[0], third, Busy); o.By.Owner != "i-1" {
			t.Errorf("beside another run: %+v", o)
		}
		if r, _ := ss[1].Read(t.Context(), "job"); r.Runs[1].Outcome != "exit 2" || r.Runs[1].Attempt != 2 {
			t.Errorf("%+v", r.Runs[1])
		}
		ss[1].Finish(t.Context(), "job", other.Run.Slot, Result{Outcome: "exit 0"})
		ss[1].SetPause(t.Context(), "job", &Pause{By: "ops"})
		claimed(t, ss[0], third, Paused)
		ss[1].SetPause(t.Context(), "job", nil)
		claimed(t, claimant(t, f, "i-0"), third, Won) // by a new process of the instance
		claimed(t, ss[1], third, Lost)
	})
}

// An end that is known and not written yet keeps no slot of this process waiting, and is written with it.
func TestAnEndIsKnownBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ss := fleet(t, 2)
		claimed(t, ss[0], alone(minute(0), Skip), Won)
		claimed(t, ss[0], alone(minute(1), Skip), Busy)
		ss[0].Ended("job", minute(0), Result{Outcome: "exit 3"})
		claimed(t, ss[1], alone(minute(1), Skip), Busy) // which cannot know
		claimed(t, ss[0], alone(minute(1), Skip), Won)
		if r, _ := ss[1].Read(t.Context(), "job"); r.Runs[1].Outcome != "exit 3" {
			t.Errorf("%+v", r.Runs)
		}
		if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 3"}); err != nil {
			t.Error(err)
		}
	})
}

// The run that is asked to end learns it with its next renewal. An older slot does not replace a newer run.
func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 3)
		claimed(t, ss[0], alone(minute(1), Replace), Won)
		if o := claimed(t, ss[1], alone(minute(0), Replace), Superseded); o.By.Owner != "i-0" {
			t.Errorf("%+v", o.By)
		}
		flaky(f, 2)
		each(ss[1:], func(s *Store) {
			o, err := s.Claim(t.Context(), alone(minute(2), Replace))
			if err != nil || o.State != Busy {
				t.Errorf("%s, %v", o.State, err)
			}
			if err := s.AskToEnd(t.Context(), "job", o.By.Nonce); err != nil {
				t.Error(err)
			}
		})
		r, err := ss[0].Renew(t.Context(), "job", minute(1), 0)
		if err != nil || r.ReplacedBy != "i-1" && r.ReplacedBy != "i-2" {
			t.Errorf("%+v, %v", r, err)
		}
		if err := ss[0].Finish(t.Context(), "job", minute(1), Result{Outcome: "replaced"}); err != nil {
			t.Error(err)
		}
		if err := ss[1].AskToEnd(t.Context(), "job", "no such nonce"); err != nil {
			t.Error(err)
		}
		won := claimed(t, ss[2], alone(minute(2), Replace), Won)
		if won.Run.ReplacedBy != "" {
			t.Errorf("%+v", won.Run)
		}
	})
}

// How long a run can be in the way is said: to its end, or to the end of its lease when its owner has died.
func TestBusySaysForHowLong(t *testing.T) {
	for name, ends := range map[string]bool{"it ends": true, "its owner dies": false} {
		synctest.Test(t, func(t *testing.T) {
			_, ss := fleet(t, 2)
			won := claimed(t, ss[0], alone(minute(0), Queue), Won)
			begin := time.Now()
			if ends {
				time.AfterFunc(2*time.Minute, func() { ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"}) })
			}
			busy := 0
			o, err := claimWhenFree(t.Context(), ss[1], alone(minute(1), Queue), func(Run) { busy++ })
			took, want := time.Since(begin), 2*time.Minute
			if !ends {
				want = won.Run.Until.Sub(won.Run.Claimed)
			}
			if err != nil || o.State != Won || took < want-3*time.Second || took > want+20*time.Second || busy != 1 {
				t.Errorf("%s: %s, %v after %s, want %s, busy %d times", name, o.State, err, took, want, busy)
			}
		})
	}
}
