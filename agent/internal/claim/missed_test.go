package claim

import (
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
