package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

func TestLimitOfJobs(t *testing.T) {
	for _, c := range []struct{ configured, processors, want int }{{0, 1, 16}, {0, 2, 16}, {0, 4, 32}, {3, 64, 3}, {100, 1, 100}} {
		if got := limit(c.configured, c.processors); got != c.want {
			t.Errorf("configured %d, %d processors: %d, want %d", c.configured, c.processors, got, c.want)
		}
	}
}

// What cron list shows of a command is no argument, and no value that the shell is to set.
func TestWhatIsShownOfACommand(t *testing.T) {
	for command, want := range map[string]string{
		"/usr/bin/python3 manage.py": "python3", "": ".", "mysql\t-p" + planted.Value: "mysql",
		"TOKEN=" + planted.Value + " ./run": "TOKEN=…", "URL=postgres://u:p@h/" + planted.Value + " ./run": "URL=…", `A="b ` + planted.Value + `" ./run`: "A=…",
	} {
		if got := program(scheduler.Job{Command: command}); got != want {
			t.Errorf("shown is %d bytes, want %q", len(got), want)
		}
	}
}

// claimed is a claim that ends so.
type claimed struct{ err error }

func (c claimed) Claim(ctx context.Context, _ scheduler.Firing) error {
	if c.err == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return c.err
}

func (claimed) Finish(context.Context, scheduler.Job, time.Time, string) {}

// A start that does not come to be speaks for all slots that it stood for: no run will.
func TestWhatDoesNotBeginIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		claim, cause error // cause ends the run while it is being claimed
		says         string
	}{
		"neither won nor lost": {unclaimed{errors.New("no store")}, nil, `"job not started" job=job due=2027-01-01T00:00:03.000Z count=3`},
		"another's":            {scheduler.ErrElsewhere, nil, `"slots left to other instances" job=job due=2027-01-01T00:00:03.000Z count=3`},
		"replaced":             {nil, scheduler.ErrReplaced, `"job not started" job=job due=2027-01-01T00:00:03.000Z count=3`},
		"stopped":              {nil, scheduler.ErrStopping, ""}, // the next life owes it
	} {
		var log bytes.Buffer
		parts := &cronParts{launcher: &launch.Launcher{Claims: claimed{c.claim}}, log: planted.Log(t, &log)}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(c.cause)
		if c.cause == nil {
			ctx = t.Context()
		}
		f := scheduler.Firing{Job: scheduler.Job{Name: "job", Retries: 1}, Due: time.Date(2027, 1, 1, 0, 0, 3, 0, time.UTC),
			Reason: scheduler.CatchUp, Attempt: 1, Coalesced: 2, Begun: func() { t.Error(name + ": it began") }}
		want := c.claim
		if c.cause != nil {
			want = c.cause
		}
		if err := parts.Run(ctx, f); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		if got := log.String(); !strings.Contains(got, c.says) || c.says == "" && got != "" {
			t.Errorf("%s: said %q, want %q", name, got, c.says)
		}
	}
}
