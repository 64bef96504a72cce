package scheduler

import (
	"context"
	"strings"
	"testing"
	"time"
)

// waitsElsewhere is a Runner whose starts wait so long for another host, asking before and after as it must, and then
// run for a minute.
func waitsElsewhere(d time.Duration) runnerFunc {
	return func(ctx context.Context, f Firing) error {
		for begins := time.Now().Add(d); ; {
			may, err := f.MayStart(ctx)
			if err != nil {
				return err
			}
			if !time.Now().Before(begins) {
				break
			}
			f.Waits("other, which runs it", true)
			select {
			case <-may.Done():
			case <-time.After(time.Until(begins)):
			}
		}
		return lasts(time.Minute)(ctx, f)
	}
}

// of is the state of a job, which may be gone.
func of(r *rig, job string) (st JobState) {
	for _, st = range r.s.Snapshot() {
		if st.Job.Name == job {
			return st
		}
	}
	return JobState{}
}

// A start that waits for another host obeys what happens to its job meanwhile, as one that waits for this host does.
func TestStartThatWaitsElsewhereMayNotStart(t *testing.T) {
	const other = "- {name: b, schedule: '0 0 1 6 *', command: x}\n"
	const file = "cron:\n- {name: a, schedule: '0 1 1 1 *', command: x, overlap: queue}\n" + other
	for name, c := range map[string]struct {
		do   func(*rig) // at half past, before the other host's run ends at 02:00
		want []string
	}{
		"nothing":      {func(*rig) {}, nil},
		"another line": {func(r *rig) { r.set("cron:\n" + other + strings.Split(file, "\n")[1] + "\n") }, nil},
		"paused":       {func(r *rig) { r.s.Pause("a") }, []string{"1h30m0s a dropped 1"}},
		"removed":      {func(r *rig) { r.set("cron:\n" + other) }, []string{"1h30m0s a dropped 1"}},
		"off":          {func(r *rig) { r.set(strings.Replace(file, "queue", "queue, enabled: 'false'", 1)) }, []string{"1h30m0s a dropped 1"}},
		"another hour": {func(r *rig) { r.set(strings.Replace(file, "0 1", "0 9", 1)) }, []string{"1h30m0s a dropped 1"}},
	} {
		inBubble(t, file, waitsElsewhere(time.Hour), Config{}, func(r *rig) {
			r.after(90 * time.Minute)
			c.do(r)
			r.after(time.Minute)
			if waits := len(of(r, "a").Running) == 1; waits != (c.want == nil) {
				t.Errorf("%s: %+v", name, of(r, "a"))
			}
			r.after(31 * time.Minute) // it would have run by then
			if ran := of(r, "a").Counts.Runs == 1; ran != (c.want == nil) || of(r, "a").Counts.Failed > 0 {
				t.Errorf("%s: %+v", name, of(r, "a"))
			}
			r.want(append(c.want, "1h0m0s a scheduled")...)
		})
	}
}

// It starts after the hold; one whose job is another by then starts anew, with the new job, and both count as one run.
func TestStartThatWaitsElsewhereIsHeld(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 1 1 1 *', command: old, overlap: queue}\n"
	inBubble(t, file, waitsElsewhere(time.Hour), Config{}, func(r *rig) {
		r.after(90 * time.Minute)
		r.s.Hold(2 * time.Hour)
		r.after(time.Hour) // the other host's run has ended
		if st := r.state("a"); len(st.Running) != 1 || st.Running[0].Waits != "the end of a hold" {
			t.Errorf("%+v", st)
		}
		r.set(strings.Replace(file, "old", "new", 1))
		r.after(time.Second)
		r.s.Release()
		r.after(time.Hour + 2*time.Minute)
		if st := r.state("a"); len(st.Running) > 0 || st.Counts.Runs != 1 || st.Last.Err != nil || r.last("a").Job.Command != "new" {
			t.Errorf("%+v, %q", st, r.last("a").Job.Command)
		}
	})
	inBubble(t, file, waitsElsewhere(time.Hour), Config{}, func(r *rig) {
		r.after(90 * time.Minute)
		r.s.Hold(time.Hour) // which nobody ends
		r.after(time.Hour - time.Second)
		if st := r.state("a"); len(st.Running) != 1 || st.Running[0].Waits == "" {
			t.Errorf("%+v", st)
		}
		r.after(2 * time.Second)
		if st := r.state("a"); len(st.Running) != 1 || st.Running[0].Waits != "" {
			t.Errorf("at the limit of the hold: %+v", st)
		}
	})
}

// A user's start is not kept.
func TestHoldDoesNotKeepAUsersStart(t *testing.T) {
	inBubble(t, "cron:\n- {name: a, schedule: '0 1 1 1 *', command: x}\n", nil, Config{}, func(r *rig) {
		r.after(time.Second)
		r.s.Hold(time.Hour)
		if err := r.s.Trigger("a", false, waitsElsewhere(0)); err != nil {
			t.Fatal(err)
		}
		r.after(time.Second)
		if st := r.state("a"); len(st.Running) != 1 || st.Running[0].Waits != "" {
			t.Errorf("%+v", st)
		}
	})
}
