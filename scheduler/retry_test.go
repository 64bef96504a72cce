package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A run that the previous process began and that has failed meanwhile is tried again. Its slot,
// which was not on record as done, is not run a second time.
func TestFailureOfAnEarlierLifeIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := make(chan Firing, 10)
		s := New(Config{Saved: map[string]SavedJob{"a": {ScheduleKey: "0 * * * * UTC", Last: midnight.Add(-time.Hour)}},
			Runner: runnerFunc(func(_ context.Context, f Firing) error { f.Begun(); started <- f; return nil })})
		tab := mustParse(t, "cron.yaml", "cron:\n- {name: a, schedule: '0 * * * *', command: x, retries: 2, backoff: 4m}\n")
		s.SetTable(tab)
		s.Adopt(Firing{Job: tab.Jobs[0], Due: midnight, Attempt: 1}, func(context.Context, Firing) error { return errors.New("exit 3") })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		f := <-started
		if f.Attempt != 2 || f.Reason != Retry || !f.Due.Equal(midnight) || !time.Now().Equal(midnight.Add(4*time.Minute)) {
			t.Errorf("%s, attempt %d of %v, at %v", f.Reason, f.Attempt, f.Due, time.Now())
		}
		if f = <-started; f.Attempt != 1 || !f.Due.Equal(midnight.Add(time.Hour)) {
			t.Errorf("then %s, attempt %d of %v", f.Reason, f.Attempt, f.Due)
		}
		cancel()
		<-done
	})
}

// A failure that would be tried again, and is not, is reported: nothing else reports it.
func TestGivingUpIsTold(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 1 * * *', command: x, retries: 2, backoff: 4m}\n"
	fails := func(ctx context.Context, f Firing) error {
		time.Sleep(10 * time.Minute)
		return errors.New("exit 3")
	}
	for name, c := range map[string]struct {
		after time.Duration
		do    func(*rig)
		want  string
	}{
		"paused while it runs":     {65 * time.Minute, func(r *rig) { r.s.Pause("a") }, "1h10m0s a gave-up 1"},
		"paused before its retry":  {72 * time.Minute, func(r *rig) { r.s.Pause("a") }, "1h12m0s a gave-up 1"},
		"gone while it runs":       {65 * time.Minute, func(r *rig) { r.set("") }, "1h10m0s a gave-up 1"},
		"stopped before its retry": {72 * time.Minute, func(r *rig) { r.end() }, "1h12m0s a gave-up 1"},
		"gone before its retry":    {72 * time.Minute, func(r *rig) { r.set("") }, "1h12m0s a gave-up 1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, file, fails, Config{}, func(r *rig) {
				r.after(c.after)
				c.do(r)
				r.after(30 * time.Minute)
				r.want("1h0m0s a scheduled", c.want)
			})
		})
	}
}
