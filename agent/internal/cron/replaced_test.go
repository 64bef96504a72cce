package cron

import (
	"context"
	"errors"
	"io"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// answers is a supervisor that answers each request to end a run with the next of these.
type answers struct {
	ends
	interrupt []error
	get       error // how it answers the question for the run
}

func (a *answers) Get(_ context.Context, id string) (runs.Run, error) { return runs.Run{ID: id}, a.get }

func (a *answers) Interrupt(ctx context.Context, id, by string) (runs.Run, error) {
	a.ends.Interrupt(ctx, id, by)
	err := a.interrupt[0]
	if len(a.interrupt) > 1 {
		a.interrupt = a.interrupt[1:]
	}
	return runs.Run{}, err
}

// A replaced run has ended when the supervisor says so, and not when it cannot be asked: the next run begins then.
func TestReplacedRunEndsWhenTheSupervisorSaysSo(t *testing.T) {
	t.Parallel()
	busy := errors.New("reach the supervisor: resource temporarily unavailable")
	for name, c := range map[string]struct {
		answers []error
		asked   int
	}{
		"it ends":                        {[]error{nil}, 1},
		"at the second try":              {[]error{busy, nil}, 2},
		"it has ended before":            {[]error{busy, runs.ErrEnded}, 2},
		"the supervisor knows none such": {[]error{runs.ErrUnknown}, 1},
	} {
		f, h, _, _ := heldAt(t, versity.Start(t, "bucket")[0], ours, func(j *scheduler.Job) { j.Overlap = scheduler.Replace })
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &answers{interrupt: c.answers}
		parts := newCron(t, io.Discard, func(cfg *Config) { cfg.Runs, cfg.Begin = s, supervised{}.Begin })
		parts.fleet = f
		job := firing(t, func(j *scheduler.Job) { j.Overlap = scheduler.Replace })
		job.Due, job.Begun = h.slot, func() { cancel(scheduler.ErrReplaced) }
		if err := parts.run(ctx, "run", job, h, func(runs.Run) {}); !errors.Is(err, scheduler.ErrReplaced) {
			t.Errorf("%s: %v", name, err)
		}
		f.outcomes.writers.Wait()
		if len(s.ended) != c.asked {
			t.Errorf("%s: asked %d times, want %d, before the register has the end", name, len(s.ended), c.asked)
		}
	}
}

// The scheduler replaces a run, or stops, when its command runs and the answer to its start is on the way: what the
// supervisor does not deny is ended for the next one, and keeps its lock for the next process.
func TestStartWhoseAnswerIsOnTheWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		get, cause    error
		asked         int
		outcome, lock string
	}{
		"replaced":                           {nil, scheduler.ErrReplaced, 1, scheduler.ErrReplaced.Error(), "released"},
		"replaced, and it is not known":      {errors.New("no answer"), scheduler.ErrReplaced, 1, scheduler.ErrReplaced.Error(), "released"},
		"replaced before the command runs":   {runs.ErrUnknown, scheduler.ErrReplaced, 0, "not started", "released"},
		"the agent stops":                    {nil, scheduler.ErrStopping, 0, "", ""},
		"the agent stops before the command": {runs.ErrUnknown, scheduler.ErrStopping, 0, "", "released"},
	} {
		f, h, _, _ := heldAt(t, versity.Start(t, "bucket")[0], ours, func(j *scheduler.Job) {})
		ctx, cancel := context.WithCancelCause(t.Context())
		s := &answers{interrupt: []error{nil}, get: c.get}
		parts := newCron(t, io.Discard, func(cfg *Config) {
			cfg.Runs = s
			cfg.Begin = func(ctx context.Context, _ appenv.ProfileOptions, _ runs.Request) (runs.Run, func() (runs.Run, error), error) {
				cancel(c.cause)
				return runs.Run{}, nil, context.Cause(ctx) // as runs.Client has it
			}
		})
		parts.fleet = f
		job := firing(t, func(j *scheduler.Job) { j.Lock, j.LockScope = "db", scheduler.LockEnvironment })
		job.Due, job.Begun = h.slot, func() {}
		if err := parts.run(ctx, "run", job, h, func(runs.Run) {}); !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
		f.outcomes.writers.Wait()
		slot, err := h.store.Read(t.Context(), "job")
		lock, lockErr := h.store.Read(t.Context(), lockRegister("db"))
		if err != nil || lockErr != nil {
			t.Fatal(err, lockErr)
		}
		if len(s.ended) != c.asked || slot.Runs[0].Outcome != c.outcome || lock.Runs[0].Outcome != c.lock {
			t.Errorf("%s: %d asked to end, the register says %q and of its lock %q, want %d, %q and %q",
				name, len(s.ended), slot.Runs[0].Outcome, lock.Runs[0].Outcome, c.asked, c.outcome, c.lock)
		}
	}
}
