package cron

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// The ends of one job's runs are written in order, a further attempt in place of the one before, and those of other jobs
// do not wait for them.
func TestOutcomesOfAJobAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var wrote []string
		q := newOutcomes(func(_ context.Context, o outcome) {
			time.Sleep(map[string]time.Duration{"slow": time.Minute, "quick": time.Second}[o.job])
			mu.Lock()
			defer mu.Unlock()
			wrote = append(wrote, o.job+" "+o.Outcome)
		}, planted.Log(t))
		at := time.Unix
		for _, o := range []outcome{noted("slow", at(1, 0), "1"), noted("slow", at(2, 0), "2a"), noted("slow", at(2, 0), "2b"), noted("quick", at(1, 0), "1"), noted("quick", at(2, 0), "2")} {
			q.add(o)
			synctest.Wait()
		}
		q.close(time.Hour)
		if want := []string{"quick 1", "quick 2", "slow 1", "slow 2b"}; !slices.Equal(wrote, want) {
			t.Errorf("wrote %q, want %q", wrote, want)
		}
	})
}

// A store that does not answer keeps neither memory nor the agent's stop waiting.
func TestOutcomesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		most, now := 0, 0
		var mu sync.Mutex
		count := func(by int) {
			mu.Lock()
			defer mu.Unlock()
			now += by
			most = max(most, now)
		}
		q := newOutcomes(func(ctx context.Context, _ outcome) { count(1); <-ctx.Done(); count(-1) }, planted.Log(t, &log))
		for i := range 100 {
			q.add(noted("often", time.Unix(int64(i), 0), "x"))
			q.add(noted("job"+string(rune('a'+i%20)), time.Unix(1, 0), "x"))
		}
		synctest.Wait()
		if n := len(q.waiting["often"]); n > maxOutcomes || most > outcomeWriters {
			t.Errorf("%d wait, %d writers", n, most)
		}
		began := time.Now()
		q.close(drainLimit)
		if took := time.Since(began); took > drainLimit || now != 0 {
			t.Errorf("the stop took %s, %d writers are left", took, now)
		}
		q.add(noted("late", time.Unix(1, 0), "x"))
		if !strings.Contains(log.String(), "the next agent process notes them") {
			t.Errorf("logged %q", log.String())
		}
	})
}

// A run that succeeded while S3 was away is not lost, nor run again, as long as another instance may have to wait for it:
// its lease and the longest grace.
func TestAnOutcomeIsTriedAsLongAsItsLeaseLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrote := make(chan bool, 2)
		q := newOutcomes(func(ctx context.Context, o outcome) {
			select {
			case <-ctx.Done():
				wrote <- false
			case <-time.After(map[string]time.Duration{"short": time.Second, "long": 3*claim.RenewEvery + runs.MaxGrace}[o.job]):
				wrote <- true
			}
		}, planted.Log(t))
		q.add(noted("long", time.Unix(1, 0), "good"))
		q.add(noted("short", time.Unix(1, 0), "good"))
		if short, long := <-wrote, <-wrote; !short || !long {
			t.Errorf("written: short %v, long %v", short, long)
		}
		q.close(time.Hour)
	})
}

func noted(job string, slot time.Time, how string) outcome {
	return outcome{job: job, slot: slot, Result: claim.Result{Outcome: how}}
}
