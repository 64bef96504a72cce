package cron

import (
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/collectors"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

// newCron makes a Cron in directories of its own, with a supervisor that knows no run and begins each. Its instance is
// not identified: with claims other than off every claim waits.
func newCron(t *testing.T, log io.Writer, change func(*Config)) *Cron {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{
		App: app.New(app.Config{}, platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: dir})),
		AWS: awsAt(t, "http://127.0.0.1:9", nil), Runs: noSupervisor{}, Files: []string{"cron.yaml"}, Claims: "off",
		StateDir: t.TempDir(), HoldFile: filepath.Join(t.TempDir(), "held"), Log: planted.Log(t, log),
		Begin: func(ctx context.Context, _ appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
			return runs.Run{ID: r.ID, Name: r.Name, Reason: r.Reason}, func() (runs.Run, error) { return runs.Run{State: runs.StateExited}, nil }, nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.fleet.outcomes.close(0) })
	return c
}

// running runs c with that cron file until the test ends.
func running(t *testing.T, c *Cron, file string) {
	t.Helper()
	put(t, filepath.Join(c.watcher.Dir, "cron.yaml"), file)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := c.sched.Trigger("?", false, nil); errors.Is(err, scheduler.ErrUnknownJob) {
			if st := c.watcher.State(); st.Kind != Loaded {
				t.Fatal(st.Err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not run")
		}
	}
}

// supervised is a supervisor that begins a run so, and knows how it ended. Where that is
// not said it goes on until somebody stops it.
type supervised struct {
	begin, end error
	reason     string // of a run that was begun before
}

func (s supervised) Begin(ctx context.Context, _ appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
	ended := func() (runs.Run, error) {
		if s.end != nil {
			return runs.Run{}, s.end
		}
		<-ctx.Done()
		return runs.Run{}, context.Cause(ctx)
	}
	return runs.Run{ID: r.ID, Reason: s.reason}, ended, s.begin
}

func (noSupervisor) Stop(context.Context, string, time.Duration) (runs.Run, error) {
	return runs.Run{}, nil
}

func (noSupervisor) Interrupt(context.Context, string, string) (runs.Run, error) {
	return runs.Run{}, nil
}

func (noSupervisor) Wait(ctx context.Context, _ string) (runs.Run, error) {
	return runs.Run{}, context.Cause(ctx)
}

func (noSupervisor) List(context.Context, runs.Filter) ([]runs.Run, error) { return nil, nil }

func (noSupervisor) Events(context.Context, uint64) iter.Seq2[runs.Event, error] {
	return func(func(runs.Event, error) bool) {}
}

func TestLimitOfJobs(t *testing.T) {
	for _, c := range []struct{ configured, processors, want int }{{0, 1, 16}, {0, 2, 16}, {0, 4, 32}, {3, 64, 3}, {100, 1, 100}} {
		if got := limit(c.configured, c.processors); got != c.want {
			t.Errorf("configured %d, %d processors: %d, want %d", c.configured, c.processors, got, c.want)
		}
	}
}

// A hold of any length outlives the agent. One of 48 hours was forgotten by a restart, quietly.
func TestHoldOutlivesTheAgent(t *testing.T) {
	for _, length := range []time.Duration{time.Hour, 48 * time.Hour, 7 * 24 * time.Hour} {
		file := filepath.Join(t.TempDir(), "held")
		same := func(c *Config) { c.HoldFile = file }
		newCron(t, io.Discard, same).Hold(length)
		next := newCron(t, io.Discard, same)
		if left := time.Until(next.sched.HeldUntil()); left < length-time.Minute || left > length {
			t.Errorf("of %s %s are left", length, left)
		}
		next.Release()
		if until := newCron(t, io.Discard, same).sched.HeldUntil(); !until.IsZero() {
			t.Errorf("a released hold of %s holds until %s", length, until)
		}
	}
}

// What failed while there was no agent is tried again as its job says.
func TestTriedAgainAfterARestart(t *testing.T) {
	plain, retried := scheduler.Job{Name: "a"}, scheduler.Job{Name: "a", Retries: 2}
	lost := scheduler.Job{Name: "a", RetryOnLoss: true}
	ended := func(code, attempt int) runs.Run {
		return runs.Run{Name: "a", State: runs.StateExited, ExitCode: code, Attempt: attempt}
	}
	for name, c := range map[string]struct {
		job  scheduler.Job
		run  runs.Run
		want bool
	}{
		"a failure, no retries":    {plain, ended(1, 1), false},
		"a success":                {retried, ended(0, 1), false},
		"the first failure":        {retried, ended(1, 1), true},
		"the second failure":       {retried, ended(1, 2), true},
		"the last failure":         {retried, ended(1, 3), false},
		"still running":            {retried, runs.Run{State: runs.StateRunning, Attempt: 1}, false},
		"by hand":                  {retried, runs.Run{State: runs.StateExited, ExitCode: 1, Attempt: 1, Reason: "manual"}, false},
		"lost, retries":            {retried, runs.Run{State: runs.StateLost, ExitCode: 1, Attempt: 1}, false},
		"lost, retry_on_loss":      {lost, runs.Run{State: runs.StateLost, ExitCode: 1, Attempt: 1}, true},
		"lost twice":               {lost, runs.Run{State: runs.StateLost, ExitCode: 1, Attempt: 2}, false},
		"a failure, retry_on_loss": {lost, ended(1, 1), false},
	} {
		if got := triedAgain(c.job, c.run); got != c.want {
			t.Errorf("%s: tried again: %t", name, got)
		}
	}
}

// past is a supervisor with past runs, newest first.
type past struct {
	noSupervisor
	runs []runs.Run
}

func (p past) List(_ context.Context, f runs.Filter) ([]runs.Run, error) {
	if f.Live {
		return nil, nil
	}
	return p.runs, nil
}

func (p past) Wait(_ context.Context, id string) (runs.Run, error) {
	for _, r := range p.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return runs.Run{}, runs.ErrUnknown
}

// Only a job's last slot is tried again, and only while it may be caught up.
func TestRestartTriesAgainWhatIsRecent(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	failed := func(job string, ago time.Duration) runs.Run {
		return runs.Run{ID: job + ago.String(), Kind: "cron", Name: job, Slot: now.Add(-ago), Attempt: 1, State: runs.StateExited, ExitCode: 1}
	}
	good := failed("well", time.Minute)
	good.ExitCode = 0
	started := make(chan runs.Request, 10)
	c := newCron(t, io.Discard, func(cfg *Config) {
		cfg.Runs = past{runs: []runs.Run{failed("due", time.Minute), good, failed("well", time.Hour/2), failed("due", time.Hour/2), failed("old", 2*time.Hour)}}
		begin := cfg.Begin
		cfg.Begin = func(ctx context.Context, o appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
			started <- r
			return begin(ctx, o, r)
		}
	})
	const rest = ", schedule: '@yearly', command: x, retries: 1, backoff: 1ms}\n"
	running(t, c, "cron:\n- {name: due"+rest+"- {name: well"+rest+"- {name: old"+rest)
	r := <-started
	if r.Name != "due" || r.Attempt != 2 || !r.Slot.Equal(now.Add(-time.Minute)) || r.ID != runs.SlotID("due", r.Slot, 2) {
		t.Errorf("started %s", r.ID)
	}
	select {
	case r := <-started:
		t.Errorf("started %s, too", r.ID)
	case <-time.After(50 * time.Millisecond):
	}
}

// Without jobs there are no series, which cost money, unless something was counted.
func TestNoSamplesWithoutJobs(t *testing.T) {
	c := newCron(t, io.Discard, nil)
	if s := c.Samples(nil); len(s) > 0 {
		t.Errorf("got %v", s)
	}
	c.counts.missed.Add(2)
	c.counts.exec.Add(1)
	value := func(list []collectors.Sample, name string) float64 {
		for _, s := range list {
			if s.Name == name {
				return s.Value
			}
		}
		return -1
	}
	if s := c.Samples(nil); value(s, "cron_missed") != 2 || value(s, "exec_runs") != 1 || value(s, "cron_runs") != 0 {
		t.Errorf("got %v", s)
	}
	if s := c.Samples(nil); len(s) > 0 {
		t.Errorf("counted twice: %v", s)
	}
}
