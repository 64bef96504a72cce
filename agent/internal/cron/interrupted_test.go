package cron

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

// A deployment, a scale-in or a reboot is no failure of the job it interrupts: it counts as none and notifies of none.
// Where the job does not run again its slot was missed, and that is reported.
func TestAnInterruptedRunIsNoFailure(t *testing.T) {
	got := make(chan map[string]any, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		json.NewDecoder(r.Body).Decode(&body)
		got <- body
	}))
	t.Cleanup(server.Close)
	var leaving atomic.Bool
	c := newCron(t, io.Discard, func(cfg *Config) {
		cfg.Leaving = leaving.Load
		cfg.Notify = []notify.Target{{Type: notify.Webhook, Name: "ops", URL: server.URL}}
	})
	running(t, c, `cron:
- {name: once, schedule: "0 0 1 1 *", command: x}
- {name: stopped, schedule: "0 0 1 1 *", command: x}
- {name: again, schedule: "0 0 1 1 *", command: x, retries: 1}
- {name: elsewhere, schedule: "0 0 1 1 *", command: x, on_owner_loss: rerun}
- {name: alone, schedule: "0 0 1 1 *", command: x, on_owner_loss: rerun}
`)
	go c.SendNotices(t.Context())
	end := func(job, by string, code int) {
		c.onEnd(runs.Run{ID: job, Kind: "cron", Name: job, State: runs.StateExited, StoppedBy: by, ExitCode: code,
			Signal: 15, Attempt: 1, Started: time.Now(), Ended: time.Now()})
	}
	end("again", runs.StoppedShutdown, 143) // which is tried again here
	c.onEnd(runs.Run{Kind: "cron", Name: "elsewhere", State: runs.StateExited, StoppedBy: runs.StoppedLease, ExitCode: 143,
		Attempt: 1, Meta: map[string]string{runs.MetaRegister: "environment"}})
	if c.fleet.losses.looks["elsewhere"].at.IsZero() {
		t.Error("nobody looks whether another instance runs it again")
	}
	end("once", runs.StoppedShutdown, 0)   // which has finished within its grace
	end("once", runs.StoppedReplaced, 143) // whose next run is the one to report
	end("once", runs.StoppedLease, 143)
	notice := <-got
	if why, _ := notice["reason"].(string); notice["kind"] != "missed" || notice["job"] != "once" || !strings.HasPrefix(why, "interrupted: ") ||
		!strings.Contains(why, "on_owner_loss: rerun") {
		t.Errorf("notified of %v", notice)
	}
	for _, s := range c.Samples(nil) {
		want := map[string]float64{"cron_runs": 5, "cron_missed": 1} // of the others 0
		if s.Value != want[s.Name] {
			t.Errorf("%s is %v", s.Name, s.Value)
		}
	}
	end("alone", runs.StoppedLease, 143) // which no other instance looks at: it was not claimed
	if notice := <-got; notice["kind"] != "missed" || notice["job"] != "alone" {
		t.Errorf("notified of %v", notice)
	}
	c.onEnd(runs.Run{Kind: "cron", Name: "elsewhere", State: runs.StateExited, StoppedBy: runs.StoppedShutdown, ExitCode: 143,
		Attempt: 1, Reason: "manual", Meta: map[string]string{runs.MetaRegister: "environment"}}) // nor at a manual run
	if notice := <-got; notice["kind"] != "missed" || notice["job"] != "elsewhere" {
		t.Errorf("notified of %v", notice)
	}
	leaving.Store(true)
	end("again", runs.StoppedShutdown, 143) // which is perhaps never tried again
	if notice := <-got; notice["kind"] != "missed" || !strings.Contains(notice["reason"].(string), "when this machine is back") {
		t.Errorf("notified of %v", notice)
	}
	end("stopped", "stop", 143) // a person's stop is no interruption
	if notice := <-got; notice["kind"] != "failed" {
		t.Errorf("notified of %v", notice)
	}
}

// Which runs are tried again is one question: the scheduler answers it for a run that ends, and triedAgain for a notice
// and after a restart of the agent.
func TestTriedAgainAsTheSchedulerSays(t *testing.T) {
	for name, c := range map[string]struct {
		run     runs.Run
		retries int
		onLoss  bool
		want    bool
	}{
		"reboot, retry_on_loss":             {runs.Run{StoppedBy: runs.StoppedShutdown, ExitCode: 143, Attempt: 1}, 0, true, true},
		"lease, retry_on_loss":              {runs.Run{StoppedBy: runs.StoppedLease, ExitCode: 143, Attempt: 1}, 0, true, true},
		"reboot, retry_on_loss, the second": {runs.Run{StoppedBy: runs.StoppedShutdown, ExitCode: 143, Attempt: 2}, 0, true, false},
		"reboot, retries":                   {runs.Run{StoppedBy: runs.StoppedShutdown, ExitCode: 143, Attempt: 1}, 1, false, true},
		"reboot, nothing":                   {runs.Run{StoppedBy: runs.StoppedShutdown, ExitCode: 143, Attempt: 1}, 0, false, false},
		"lost, retry_on_loss":               {runs.Run{State: runs.StateLost, ExitCode: -1, Attempt: 1}, 0, true, true},
		"lost, retries":                     {runs.Run{State: runs.StateLost, ExitCode: -1, Attempt: 1}, 1, false, false},
		"failed, retry_on_loss":             {runs.Run{ExitCode: 1, Attempt: 1}, 0, true, false},
		"stopped, retry_on_loss":            {runs.Run{StoppedBy: "stop", ExitCode: 143, Attempt: 1}, 0, true, false},
		"replaced, retries":                 {runs.Run{StoppedBy: runs.StoppedReplaced, ExitCode: 143, Attempt: 1}, 1, true, false},
		"out of memory, retry_on_loss":      {runs.Run{StoppedBy: runs.StoppedShutdown, OOM: true, ExitCode: 137, Attempt: 1}, 0, true, false},
	} {
		if got := triedAgain(scheduler.Job{Retries: c.retries, RetryOnLoss: c.onLoss}, c.run); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// enders notes how runs are ended.
type enders struct {
	noSupervisor
	by []string
}

func (e *enders) Interrupt(_ context.Context, _, by string) (runs.Run, error) {
	e.by = append(e.by, by)
	return runs.Run{}, nil
}

// The agent ends a run when its lease is over, perhaps before the supervisor does: the record says the same.
func TestALostClaimInterrupts(t *testing.T) {
	e := &enders{}
	h := &held{leases: &leases{runs: e, log: planted.Log(t)}}
	h.end(t.Context(), "x", fmt.Errorf("%w: S3 did not answer", scheduler.ErrInterrupted))
	h.end(t.Context(), "x", fmt.Errorf("%w: another asked for it", scheduler.ErrReplaced))
	if want := []string{runs.StoppedLease, runs.StoppedReplaced}; !slices.Equal(e.by, want) {
		t.Errorf("ended by %q, want %q", e.by, want)
	}
}
