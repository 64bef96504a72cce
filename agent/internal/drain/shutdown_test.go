package drain

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// The agent ends jobs only where the machine goes down, all at once, and has systemd wait as long as the slowest takes.
func TestJobsEndWhileTheAgentCanReportIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var asked []string
		var until time.Time // systemd waits
		began := time.Now()
		d := New(Config{
			Log: planted.Log(t), Hold: func(time.Duration) {}, Release: func() {}, Connections: func(context.Context) int { return 0 },
			Extend: func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				until = time.Now().Add(d)
			},
			Runs: func(_ context.Context, f runs.Filter) ([]runs.Run, error) {
				if !f.Live || f.Kind != "cron" {
					t.Errorf("asked for %+v", f)
				}
				return []runs.Run{{ID: "quick"}, {ID: "slow"}, {ID: "over"}}, nil
			},
			Interrupt: func(_ context.Context, id, by string) (runs.Run, error) {
				if by != runs.StoppedShutdown {
					t.Errorf("ended by %q", by)
				}
				mu.Lock()
				asked = append(asked, id)
				mu.Unlock()
				time.Sleep(map[string]time.Duration{"quick": time.Second, "slow": runs.MaxGrace}[id])
				mu.Lock()
				defer mu.Unlock()
				if until.Before(time.Now()) {
					t.Error("systemd has killed the agent")
				}
				if id == "over" {
					return runs.Run{}, &runs.Refused{Kind: runs.KindEnded}
				}
				return runs.Run{}, nil
			},
		})
		if err := d.EndJobs(t.Context()); err == nil || len(asked) > 0 {
			t.Errorf("this machine stays: %v, ended %q", err, asked)
		}
		d.Drain(t.Context(), "maintenance", false)
		if err := d.EndJobs(t.Context()); err == nil || len(asked) > 0 {
			t.Errorf("an operator's drain: %v, ended %q", err, asked)
		}
		d.Drain(t.Context(), "", true)
		if err := d.EndJobs(t.Context()); err != nil {
			t.Error(err)
		}
		slices.Sort(asked)
		if !slices.Equal(asked, []string{"over", "quick", "slow"}) || time.Since(began) != runs.MaxGrace {
			t.Errorf("ended %q after %s", asked, time.Since(began))
		}
		d.cfg.Interrupt = func(context.Context, string, string) (runs.Run, error) { return runs.Run{}, errors.New("gone") }
		if err := d.EndJobs(t.Context()); err == nil {
			t.Error("a supervisor that does not answer is no error")
		}
	})
}
