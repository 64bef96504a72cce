package cron

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// owned is a fleet of which this instance has claimed f's slot already, and what is noted of its end.
func owned(t *testing.T, c *Cron, f scheduler.Firing) (noted func() string) {
	c.fleet.own(f)
	text := make(chan string, 1)
	c.fleet.outcomes = newOutcomes(func(_ context.Context, o outcome) { text <- o.Outcome }, c.log)
	return func() string {
		c.fleet.outcomes.writers.Wait()
		select {
		case s := <-text:
			return s
		default:
			return ""
		}
	}
}

// The end of a slot that was claimed is in a run's record, a line of the log or the job's register, except that what
// stops with the agent is left to the next process.
func TestWhatWasClaimedIsNoted(t *testing.T) {
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
		"refused":                       {supervised: supervised{begin: refused}, want: refused, says: "job not started", outcome: "not started"},
		"replaced before it began":      {supervised: supervised{begin: scheduler.ErrReplaced}, cause: scheduler.ErrReplaced, want: scheduler.ErrReplaced, outcome: "not started"},
		"stopped before it began":       {supervised: supervised{begin: scheduler.ErrStopping}, cause: scheduler.ErrStopping, want: scheduler.ErrStopping},
		"replaced":                      {cause: scheduler.ErrReplaced, want: scheduler.ErrReplaced, outcome: scheduler.ErrReplaced.Error()},
		"the agent stops":               {cause: scheduler.ErrStopping, want: scheduler.ErrStopping},
	} {
		var log bytes.Buffer
		f := scheduler.Firing{Job: scheduler.Job{Name: "job"}, Due: time.Unix(1, 0), Reason: scheduler.CatchUp, Why: "2 slots, the last of 1",
			Coalesced: c.coalesced, Attempt: 1, Begun: func() {}}
		parts := newCron(t, &log, func(cfg *Config) { cfg.Begin = c.supervised.Begin })
		noted := owned(t, parts, f)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		if c.cause != nil {
			cancel(c.cause)
		}
		err := parts.fire(ctx, f)
		if got := noted(); !errors.Is(err, c.want) || got != c.outcome || !strings.Contains(log.String(), c.says) {
			t.Errorf("%s: %v, the register says %q, the log %q", name, err, got, log.String())
		}
	}
}

// A start that does not come to be speaks for all slots that it stood for: no run will.
func TestWhatDoesNotBeginIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		endpoint string // of the claim store; "": it takes for ever
		cause    error  // ends the claim
		says     string
	}{
		"neither won nor lost": {"http://127.0.0.1:9", nil, `"job not started" job=job due=2027-01-01T00:00:03.000Z count=3`},
		"replaced":             {"", scheduler.ErrReplaced, `"job not started" job=job due=2027-01-01T00:00:03.000Z count=3`},
		"stopped":              {"", scheduler.ErrStopping, ""}, // the next process owes it
	} {
		var log bytes.Buffer
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		parts := newCron(t, &log, nil)
		if parts.fleet.setting = "s3://bucket"; c.endpoint != "" {
			parts.fleet = fleetAt(t, c.endpoint, "")
		} else {
			cancel(c.cause)
		}
		every, _ := scheduler.Parse("crontab", []byte("@every 1s x\n"), scheduler.ParseOptions{})
		f := scheduler.Firing{Job: scheduler.Job{Name: "job", Retries: 1, Schedule: every.Jobs[0].Schedule},
			Due: time.Date(2027, 1, 1, 0, 0, 3, 0, time.UTC), Reason: scheduler.CatchUp, Attempt: 1, Coalesced: 2,
			Begun: func() { t.Error(name + ": it began") }}
		err := parts.fire(ctx, f)
		if c.cause != nil && !errors.Is(err, c.cause) || c.cause == nil && !isUnclaimed(err) {
			t.Errorf("%s: %v", name, err)
		}
		if got := log.String(); !strings.Contains(got, c.says) || c.says == "" && got != "" {
			t.Errorf("%s: said %q, want %q", name, got, c.says)
		}
	}
}

// Slots that another instance runs are logged when they stand for several.
func TestSlotsLeftToOthersAreLogged(t *testing.T) {
	var log bytes.Buffer
	c := newCron(t, &log, nil)
	store := versity.Careless(t) // one claimant at a time: conditions do not matter
	f := firing(t, func(*scheduler.Job) {})
	if _, err := fleetAt(t, store, "i-0fedcba9876543210").claim(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	c.fleet = fleetAt(t, store, "i-0123456789abcdef0")
	f.Coalesced, f.Begun = 2, func() { t.Error("it began") }
	if err := c.fire(t.Context(), f); !errors.Is(err, scheduler.ErrElsewhere) {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "slots left to other instances") || !strings.Contains(log.String(), "count=3") {
		t.Errorf("logged %q", log.String())
	}
}

// Two callers of one job, whose runs may overlap, each get their own run. The first got an empty one, since what waited
// was kept by the job's name; and a refused trigger was kept for good.
func TestEachTriggerGetsItsOwnRun(t *testing.T) {
	begin := make(chan bool)
	c := newCron(t, io.Discard, func(cfg *Config) {
		begun := cfg.Begin
		cfg.Begin = func(ctx context.Context, o appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
			<-begin
			return begun(ctx, o, r)
		}
	})
	running(t, c, "cron: [{name: job, schedule: '@yearly', command: x, overlap: allow}]\n")
	ids := make(chan string, 2)
	var callers sync.WaitGroup
	for range 2 {
		callers.Go(func() {
			r, err := c.Trigger(t.Context(), api.Caller{}, "job", false)
			if err != nil {
				t.Error(err)
			}
			ids <- r.ID
		})
	}
	begin <- true
	begin <- true
	callers.Wait()
	if a, b := <-ids, <-ids; a == "" || b == "" || a == b {
		t.Errorf("got the runs %q and %q", a, b)
	}
	_, err := c.Trigger(t.Context(), api.Caller{}, "none", false)
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Status != 404 || e.Hint == "" {
		t.Errorf("an unknown job: %v", err)
	}
}

// A run that could not start is an error to its caller, and so is a caller that goes away.
func TestTriggerThatCannotStart(t *testing.T) {
	refused := errors.New("no such directory")
	c := newCron(t, io.Discard, func(cfg *Config) { cfg.Begin = supervised{begin: refused}.Begin })
	running(t, c, "cron: [{name: job, schedule: '@yearly', command: x}]\n")
	if _, err := c.Trigger(t.Context(), api.Caller{}, "job", false); !errors.Is(err, refused) {
		t.Error(err)
	}
}

// A job's slot is free again as soon as its run has ended, however long the claim store takes to note the end: with an
// S3 that answered slowly each slot meanwhile was skipped as overlapping.
func TestRunDoesNotWaitForItsRegister(t *testing.T) {
	c := newCron(t, io.Discard, nil)
	f := scheduler.Firing{Job: scheduler.Job{Name: "job"}, Due: time.Unix(1, 0), Attempt: 1, Begun: func() {}}
	owned(t, c, f)
	answer := make(chan bool)
	c.fleet.outcomes = newOutcomes(func(context.Context, outcome) { <-answer }, c.log)
	ended := make(chan error, 1)
	go func() { ended <- c.fire(t.Context(), f) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the run waits for its register")
	}
	close(answer)
	c.fleet.outcomes.writers.Wait()
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

// What concerns no slot is logged without one.
func TestEventsAreLoggedAsTheyAre(t *testing.T) {
	var log bytes.Buffer
	c := newCron(t, &log, nil)
	c.onEvent(scheduler.Event{Kind: scheduler.HoldEnded, Text: "x"})
	if got := log.String(); strings.Contains(got, "due=") || strings.Contains(got, "count=") || strings.Contains(got, "job=") || strings.Contains(got, "err=") {
		t.Errorf("logged %q", got)
	}
	log.Reset()
	c.onEvent(scheduler.Event{Kind: scheduler.Missed, Job: "a", Due: time.Unix(0, 0), Count: 2, Text: "x"})
	if got := log.String(); !strings.Contains(got, "job=a") || !strings.Contains(got, "due=1970") || !strings.Contains(got, "count=2") {
		t.Errorf("logged %q", got)
	}
}

// Everybody reads a command line, and the query of a url: job may be a secret.
func TestTheAddressOfAPostIsInNoCommandLine(t *testing.T) {
	var asked runs.Request
	var o appenv.ProfileOptions
	c := newCron(t, io.Discard, func(cfg *Config) {
		begin := cfg.Begin
		cfg.Begin = func(ctx context.Context, given appenv.ProfileOptions, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
			asked, o = r, given
			return begin(ctx, given, r)
		}
	})
	const url = "/tasks?token=" + planted.Value
	f := scheduler.Firing{Job: scheduler.Job{Name: "a", URL: url}, Begun: func() {}}
	if err := c.fire(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.Join(asked.Args, " "), planted.Value) || !slices.Contains(o.Extra, PostPath+"="+url) {
		t.Errorf("argv %q, environment %q", asked.Args, o.Extra)
	}
}

// An instance that cannot start a job must leave its slot to those that can.
func TestSlotIsNotClaimedWithoutTheEnvironment(t *testing.T) {
	var asked atomic.Int32
	store := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer store.Close()
	for text, want := range map[string]string{"A=1\x00": "NUL", "PROCESS_TYPE=worker\n": "neither the job nor the file has process_types"} {
		var log bytes.Buffer
		parts := newCron(t, &log, func(cfg *Config) { cfg.Begin = supervised{}.Begin })
		if err := os.WriteFile(filepath.Join(parts.cfg.App.Facts().AppDir, ".env"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		parts.fleet = fleetAt(t, store.URL, "i-0123456789abcdef0")
		parts.fire(t.Context(), firing(t, func(*scheduler.Job) {}))
		if asked.Load() > 0 || !strings.Contains(log.String(), want) {
			t.Errorf("%q: the store was asked %d times; %s", text, asked.Load(), log.String())
		}
	}
}
