package scheduler

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A start that waits for another host keeps no job of this one from its room or its lock; a slot that overlaps with
// another host's run is counted since the first, is no failure, and is not tried again.
func TestWaitingElsewhereTakesNoRoom(t *testing.T) {
	file := "cron:\n- {name: a, schedule: '0 * * * *', command: x, lock: db, overlap: queue}\n" +
		"- {name: b, schedule: '5 * * * *', command: x, lock: db, retries: 3}\n"
	far := func(ctx context.Context, f Firing) error {
		if f.Job.Name == "b" {
			return &RunsElsewhere{By: "other", Since: f.Due}
		}
		f.Waits("other, which runs it", true)
		time.Sleep(90 * time.Minute)
		f.Waits("its start", false)
		f.Begun()
		time.Sleep(time.Minute)
		return nil
	}
	inBubble(t, file, far, Config{Limit: 1}, func(r *rig) {
		r.after(30 * time.Minute)
		if st := r.state("a"); len(st.Running) != 0 {
			t.Fatalf("%+v", st)
		}
		r.after(90 * time.Minute) // 02:00
		a, b := r.state("a"), r.state("b")
		if len(a.Running) != 1 || a.Running[0].Waits != "other, which runs it" || b.Counts.Overlapped != 2 || b.Counts.Failed != 0 ||
			!b.Retry.IsZero() || b.Waiting != nil {
			t.Errorf("a is %+v, b is %+v", a, b)
		}
		r.after(90 * time.Minute)
		a, b = r.state("a"), r.state("b")
		if a.Counts.Runs != 1 || b.Counts.Overlapped < 3 || b.Counts.Since.Hour() != 0 {
			t.Errorf("a is %+v, b is %+v", a.Counts, b.Counts)
		}
	})
	if err := error(&RunsElsewhere{By: "other"}); !errors.Is(err, ErrElsewhere) || !strings.HasPrefix(err.Error(), "other runs it since ") {
		t.Error(err)
	}
}
