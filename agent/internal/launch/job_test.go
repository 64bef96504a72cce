package launch

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

// supervised is a supervisor that begins a run so, and knows how it ended. Where that is
// not said it goes on until somebody stops it.
type supervised struct {
	Runs
	begin, end error
	reason     string // of a run that was begun before
}

func (s supervised) Begin(ctx context.Context, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
	ended := func() (runs.Run, error) {
		if s.end != nil {
			return runs.Run{}, s.end
		}
		<-ctx.Done()
		return runs.Run{}, context.Cause(ctx)
	}
	return runs.Run{ID: r.ID, Reason: s.reason}, ended, s.begin
}

func (s supervised) Stop(context.Context, string, time.Duration) (runs.Run, error) {
	return runs.Run{}, nil
}

// noted keeps what the fleet is told of a slot.
type noted struct{ outcome string }

func (n *noted) Claim(context.Context, scheduler.Firing) error { return nil }
func (n *noted) Finish(ctx context.Context, _ scheduler.Job, _ time.Time, outcome string) {
	if ctx.Err() == nil {
		n.outcome = outcome
	}
}

// What becomes of a slot that was claimed is told by a run, a line of the log or the job's
// register, except that what stops with the agent is the next life's to tell.
func TestWhatWasClaimedIsTold(t *testing.T) {
	refused := errors.New("no such directory")
	for name, c := range map[string]struct {
		supervised
		cause         error
		coalesced     int
		want          error
		says, outcome string
	}{
		"it exists, for its own slot":   {supervised: supervised{begin: runs.ErrExists, end: runs.ErrUnknown}, want: scheduler.ErrLost, says: "cannot be known", outcome: scheduler.ErrLost.Error()},
		"it exists, and stands for two": {supervised: supervised{begin: runs.ErrExists, end: runs.ErrUnknown}, coalesced: 1, want: scheduler.ErrLost, says: "2 slots, the last of", outcome: scheduler.ErrLost.Error()},
		"it was begun by one that died": {supervised: supervised{reason: "scheduled", end: runs.ErrUnknown}, coalesced: 1, want: scheduler.ErrLost, says: "2 slots, the last of", outcome: scheduler.ErrLost.Error()},
		"refused":                       {supervised: supervised{begin: refused}, want: refused, outcome: "not started"},
		"replaced before it began":      {supervised: supervised{begin: scheduler.ErrReplaced}, cause: scheduler.ErrReplaced, want: scheduler.ErrReplaced, outcome: "not started"},
		"stopped before it began":       {supervised: supervised{begin: scheduler.ErrStopping}, cause: scheduler.ErrStopping, want: scheduler.ErrStopping},
		"replaced":                      {cause: scheduler.ErrReplaced, want: scheduler.ErrReplaced, outcome: scheduler.ErrReplaced.Error()},
		"the agent stops":               {cause: scheduler.ErrStopping, want: scheduler.ErrStopping},
	} {
		var log bytes.Buffer
		fleet := &noted{}
		l := &Launcher{Runs: c.supervised, Claims: fleet, Version: func() string { return "" }, Host: func() string { return "" }, Log: planted.Log(t, &log),
			Profile: func(context.Context, appenv.ProfileOptions) (appenv.Profile, error) { return appenv.Profile{}, nil }}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		if c.cause != nil {
			cancel(c.cause)
		}
		err := l.Run(ctx, scheduler.Firing{Job: scheduler.Job{Name: "job"}, Due: time.Unix(1, 0), Reason: scheduler.CatchUp, Why: "2 slots, the last of 1", Coalesced: c.coalesced, Attempt: 1, Begun: func() {}})
		if !errors.Is(err, c.want) || fleet.outcome != c.outcome || !strings.Contains(log.String(), c.says) {
			t.Errorf("%s: %v, the fleet knows %q, said %q", name, err, fleet.outcome, log.String())
		}
	}
}
