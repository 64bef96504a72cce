package claim

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// Five instances note at once, through a network that loses answers, that an interrupted run is not run again: one of
// them reports it, and none takes the slot over.
func TestOneReportsAMissedSlot(t *testing.T) {
	for every := 1; every < 4; every++ {
		synctest.Test(t, func(t *testing.T) {
			f, ss := fleet(t, 6)
			q := alone(minute(0), Skip)
			claimed(t, ss[5], q, Won)
			if noted, err := ss[0].NoteMissed(t.Context(), "job", q.Slot); noted || err != nil {
				t.Errorf("while it runs: %v, %v", noted, err)
			}
			how := Result{Attempt: 1, Outcome: Interrupted + ": shutdown"}
			if err := ss[5].Finish(t.Context(), "job", q.Slot, how); err != nil {
				t.Fatal(err)
			}
			flaky(f, every+1)
			var mu sync.Mutex
			count := 0
			each(ss[:5], func(s *Store) {
				noted, err := s.NoteMissed(t.Context(), "job", q.Slot)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if noted {
					count++
				}
			})
			again, err := ss[0].NoteMissed(t.Context(), "job", q.Slot)
			if count != 1 || again || err != nil {
				t.Errorf("reported %d times, and then %v, %v", count, again, err)
			}
			if o, err := ss[1].TakeOver(t.Context(), q); err != nil || o.State != Lost || !strings.HasPrefix(o.By.Outcome, "missed, as i-") {
				t.Errorf("%+v, %v", o, err)
			}
		})
	}
}

// The interrupted slot before one that is claimed is reported by one instance: also where two later slots are claimed, the
// older of them last or beside it, where a user has run the job in between, and where the answer to a claim is lost.
func TestALaterSlotReportsTheInterruptedOneOnce(t *testing.T) {
	manual := Request{Job: "job", Manual: true, Window: window, Overlap: Allow, Rerun: true}
	later := func(n int) Request { q := beside(minute(n)); q.Rerun = true; return q }
	for name, c := range map[string]struct {
		claims []Request
		ends   bool // each run before the next claim
		want   []string
	}{
		"in order":               {[]Request{later(1), later(2)}, true, []string{"i-0", "", ""}},
		"in order, at once":      {[]Request{later(1), later(2)}, false, []string{"i-0", "", ""}},
		"the older one last":     {[]Request{later(2), later(1)}, true, []string{"i-0", "", ""}},
		"the last of three":      {[]Request{later(3), later(1), later(2)}, false, []string{"i-0", "", "", ""}},
		"after a manual run":     {[]Request{manual, later(22*60 + 1)}, true, []string{"", "i-0", ""}},
		"a job that reports":     {[]Request{beside(minute(1)), later(2)}, true, []string{"", "", ""}},
		"again, after an answer": {[]Request{later(1), later(1)}, false, []string{"i-0", ""}},
	} {
		for _, loses := range []int{0, 1, 2} { // every second, or every, answer to a write
			synctest.Test(t, func(t *testing.T) {
				f, ss := fleet(t, 4)
				claimed(t, ss[0], later(0), Won)
				if err := ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: Interrupted + ": shutdown"}); err != nil {
					t.Fatal(err)
				}
				if loses > 0 {
					n := 0
					f.after = func(w http.ResponseWriter, r *http.Request) bool {
						n++
						return r.Method == http.MethodPut && n%loses == 0 && abort(w, r)
					}
				}
				var got []string
				for i, q := range c.claims {
					o, err := ss[i%3+1].Claim(t.Context(), q)
					if err != nil {
						t.Fatal(err)
					}
					by := ""
					for _, run := range o.Missed {
						by += run.Owner
						if !run.Interrupted() {
							t.Errorf("%s: reported with %q", name, run.Outcome)
						}
					}
					if got = append(got, by); c.ends && o.State == Won {
						ss[i%3+1].Finish(t.Context(), "job", o.Run.Slot, Result{Outcome: "exit 0"})
					}
				}
				if o, err := ss[3].TakeOver(t.Context(), later(0)); name != "a job that reports" && (err != nil || o.State == Won) {
					t.Errorf("%s: taken over: %+v, %v", name, o, err)
				}
				if want := c.want[:len(c.claims)]; !slices.Equal(got, want) {
					t.Errorf("%s, loses %d: reported %q, want %q", name, loses, got, want)
				}
			})
		}
	}
}

// The answer to the write of an interrupted run's end is lost, and meanwhile another instance notes that it is not run
// again: the end is in the register, and the slot is not up to be reported, or run, once more.
func TestAnEndThatWasNotedAsMissedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 3)
		q := alone(minute(0), Skip)
		claimed(t, ss[0], q, Won)
		puts := 0
		f.after = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			if puts++; puts > 1 {
				return false
			}
			f.after = nil
			if noted, err := ss[1].NoteMissed(t.Context(), "job", q.Slot); !noted || err != nil {
				t.Errorf("noted %v, %v", noted, err)
			}
			return abort(w, r)
		}
		if err := ss[0].Finish(t.Context(), "job", q.Slot, Result{Outcome: Interrupted + ": shutdown"}); err != nil {
			t.Error(err)
		}
		if noted, err := ss[2].NoteMissed(t.Context(), "job", q.Slot); noted || err != nil {
			t.Errorf("noted again: %v, %v", noted, err)
		}
		if o, err := ss[2].TakeOver(t.Context(), q); err != nil || o.State != Lost {
			t.Errorf("%+v, %v", o, err)
		}
		again := q
		again.Attempt = 2 // its owner's next attempt has an end of its own
		claimed(t, ss[0], again, Won)
		if err := ss[0].Finish(t.Context(), "job", q.Slot, Result{Attempt: 2, Outcome: "exit 1"}); err != nil {
			t.Error(err)
		}
		if r, _ := ss[1].Read(t.Context(), "job"); r.Runs[0].Outcome != "exit 1" {
			t.Errorf("%+v", r.Runs[0])
		}
	})
}
