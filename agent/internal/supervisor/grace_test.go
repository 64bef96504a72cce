package supervisor

import (
	"context"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// Whoever may stop a run may say how long that takes. It must not bind the next one, nor the end of the machine.
func TestLaterStopBringsTheEndForward(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration
		end     func(d *daemon, id string) error
	}{
		"a stop": {0, func(d *daemon, id string) error { _, err := d.Stop(t.Context(), id, time.Millisecond); return err }},
		"a replace": {0, func(d *daemon, id string) error {
			_, err := d.Interrupt(t.Context(), id, runs.StoppedReplaced)
			return err
		}},
		"a timeout":  {2 * time.Second, func(d *daemon, id string) error { _, err := d.Wait(t.Context(), id); return err }},
		"a shutdown": {0, func(d *daemon, _ string) error { return d.Shutdown(t.Context(), time.Millisecond) }},
		"a longer, then a shorter one": {0, func(d *daemon, id string) error {
			gone, cancel := context.WithCancel(t.Context())
			cancel()
			d.Stop(gone, id, 2*time.Hour)
			_, err := d.Stop(t.Context(), id, time.Millisecond)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t)
			req, pid := leaves(t, "cron")
			req.Timeout = c.timeout
			begin(t, d, req)
			child := pid()
			ctx, leave := context.WithCancel(t.Context())
			go d.Stop(ctx, req.ID, time.Hour)
			eventually(t, "it is being ended", func() bool {
				run, err := d.Get(t.Context(), req.ID)
				return err == nil && run.StoppedBy != ""
			})
			leave()
			within(t, func() error { return c.end(d, req.ID) })
			if alive(child) {
				t.Error("its child works on")
			}
		})
	}
}

// The command has ended, in `agent ps` there is nothing to see of the run, and its leftovers have an hour.
func TestWhatACommandLeftBehindCanBeEnded(t *testing.T) {
	for name, end := range map[string]func(d *daemon, id string) error{
		"a stop":     func(d *daemon, id string) error { _, err := d.Stop(t.Context(), id, time.Millisecond); return err },
		"a shutdown": func(d *daemon, _ string) error { return d.Shutdown(t.Context(), time.Millisecond) },
	} {
		for _, kind := range []string{"exec", "cron"} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				d := start(t)
				req, pid := leaves(t, kind)
				req.Grace = time.Hour
				begin(t, d, req)
				child := pid()
				killCommand(t, d, req.ID)
				within(t, func() error { return end(d, req.ID) })
				if alive(child) {
					t.Error("its child works on")
				}
			})
		}
	}
}

// within fails a test that waits for an hour's grace.
func within(t *testing.T, f func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it still has its grace")
	}
}

func TestGraceHasALimit(t *testing.T) {
	c := Config{AllowUsers: []string{"*"}, AllowRoot: true}
	for name, tc := range map[string]struct {
		caller uint32
		grace  time.Duration
		ok     bool
	}{
		"the most":            {1000, runs.MaxGrace, true},
		"more":                {1000, runs.MaxGrace + 1, false},
		"root's":              {0, 1000 * time.Hour, true},
		"root's, below none":  {0, -1, false},
		"a user's below none": {1000, -1, false},
	} {
		req := request("true")
		req.Caller.UID, req.Grace = tc.caller, tc.grace
		if _, refusal := c.check(&req); (refusal == nil) != tc.ok {
			t.Errorf("%s: %+v", name, refusal)
		}
	}
}
