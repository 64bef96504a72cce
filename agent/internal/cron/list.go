package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// List is `agent cron list`.
func (c *Cron) List(ctx context.Context) (api.CronTable, error) {
	st := c.watcher.State()
	t := api.CronTable{File: st.Path, State: string(st.Kind), Jobs: []api.CronJob{}}
	if st.Err != nil {
		t.Faults = strings.Split(st.Err.Error(), "\n")
	}
	for _, w := range st.Table.Warnings {
		t.Warnings = append(t.Warnings, w.String())
	}
	t.Warnings = append(t.Warnings, c.notices.unknown(st.Table)...)
	t.Held = orNil(c.sched.HeldUntil())
	for _, s := range c.sched.Snapshot() {
		t.Jobs = append(t.Jobs, cronJob(s))
	}
	on := "all"
	if _, err := c.fleet.open(); err == nil {
		on = "one"
	}
	var shared []*api.CronJob
	for i := range t.Jobs {
		t.Jobs[i].On = cmp.Or(t.Jobs[i].On, on)
		if on == "one" && t.Jobs[i].On == "one" {
			shared = append(shared, &t.Jobs[i])
		}
	}
	unread, err := c.fleet.fillLast(ctx, shared)
	if err != nil {
		t.Warnings = append(t.Warnings, err.Error())
	}
	if unread > 0 {
		t.Warnings = append(t.Warnings, fmt.Sprintf(
			"of %s the last run on this instance is shown: the claim store was not asked or did not answer",
			api.Count(unread, "job")))
	}
	return t, nil
}

// Limits of what one list asks S3: time, and requests, which cost money.
const (
	listLimit   = 2 * time.Second
	listReads   = 100
	listReaders = 16
)

// fillLast fills in which instance ran each job's newest slot, and how it ended. It returns the number of jobs whose
// register it has not read, and what is wrong with one that cannot be believed.
func (c *fleet) fillLast(ctx context.Context, jobs []*api.CronJob) (unread int, unusable error) {
	s, err := c.open()
	if err != nil || len(jobs) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	var readers sync.WaitGroup
	var next, read atomic.Int64
	var wrong atomic.Pointer[error]
	some := jobs[:min(len(jobs), listReads)]
	for range min(listReaders, len(some)) {
		readers.Go(func() {
			for i := next.Add(1); i <= int64(len(some)); i = next.Add(1) {
				j := some[i-1]
				r, err := s.Read(ctx, j.Name)
				if errors.Is(err, claim.ErrMisconfigured) {
					wrong.Store(&err)
				}
				if err != nil {
					continue
				}
				read.Add(1)
				past := slices.IndexFunc(r.Runs, func(run claim.Run) bool { return !run.Slot.After(time.Now()) })
				if past >= 0 {
					run := r.Runs[past]
					j.Host, j.Last, j.Result = run.Owner, &run.Slot, cmp.Or(run.Outcome, "started, not ended")
				}
			}
		})
	}
	readers.Wait()
	if err := wrong.Load(); err != nil {
		unusable = *err
	}
	return len(jobs) - int(read.Load()), unusable
}

func cronJob(s scheduler.JobState) api.CronJob {
	j := api.CronJob{Name: s.Job.Name, Schedule: s.Job.Expr, Timezone: s.Job.Location.String(),
		Runs: program(s.Job), On: s.Job.On.String(), Note: note(s),
		Next: orNil(s.Next), Last: orNil(s.Last.Due), Failures: int(s.Counts.Failed),
		Skipped: s.Counts.Overlapped, Since: orNil(s.Counts.Since),
		Missed: s.Counts.Missed, MissedAt: orNil(s.Counts.LastMissed)}
	if !s.Last.Started.IsZero() {
		j.Result = "good"
		if s.Last.Err != nil {
			j.Result = s.Last.Err.Error()
		}
	}
	return j
}

// note says what holds a job, or what it does now.
func note(s scheduler.JobState) string {
	switch {
	case s.Off != "":
		return "off here: " + s.Off
	case !s.Paused.IsZero():
		return "paused since " + s.Paused.Format(time.DateTime)
	case s.Gone:
		return "not in the cron file any more, still running"
	case len(s.Running) > 0:
		since := s.Running[0].Started
		took := time.Since(since).Round(time.Second)
		return fmt.Sprintf("running since %s, for %s", since.Format(time.TimeOnly), took)
	case s.Waiting != nil:
		return "waits for " + s.Waiting.For
	case !s.Retry.IsZero():
		return "tried again at " + s.Retry.Format(time.TimeOnly)
	}
	return ""
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// program is what a job runs, without arguments, which may hold secrets.
func program(j scheduler.Job) string {
	switch {
	case j.URL != "":
		path, _, _ := strings.Cut(j.URL, "?")
		return "POST " + path
	case len(j.Args) > 0:
		return filepath.Base(j.Args[0])
	}
	word := append(strings.Fields(j.Command), "")[0]
	if name, _, assigned := strings.Cut(word, "="); assigned {
		return name + "=…" // and then a value, which may be a secret
	}
	return filepath.Base(word)
}

// Next is `agent cron next`. A job that is off or paused says so.
func (c *Cron) Next(_ context.Context, from time.Time, n int, job string) ([]api.Occurrence, error) {
	list, err := Occurrences(c.watcher.State().Table, from, n, job)
	idle := map[string]string{}
	for _, s := range c.sched.Snapshot() {
		if s.Off != "" || !s.Paused.IsZero() {
			idle[s.Job.Name] = note(s)
		}
	}
	for i, o := range list {
		if why := idle[o.Job]; why != "" {
			list[i].Note = strings.TrimSuffix(why+"; "+o.Note, "; ")
		}
	}
	return list, err
}

// Cost is `agent cron list --cost`.
func (c *Cron) Cost(_ context.Context, instances int) (api.CronCost, error) {
	_, err := c.fleet.open()
	var jobs []scheduler.Job
	for _, s := range c.sched.Snapshot() {
		if s.Off == "" && !s.Gone && (s.Job.On == scheduler.OnOne || err == nil) {
			jobs = append(jobs, s.Job)
		}
	}
	return MonthlyCost(jobs, instances), nil
}

// Trigger is `agent cron run`: it returns the run as soon as it has started. The run does not end with ctx.
func (c *Cron) Trigger(ctx context.Context, caller api.Caller, job string) (runs.Run, error) {
	type start struct {
		run runs.Run
		err error
	}
	started := make(chan start, 1)
	err := c.sched.Trigger(job, func(ctx context.Context, f scheduler.Firing) error {
		run, ended, err := c.start(ctx, runs.ManualID(job, f.Due, f.Attempt), f)
		started <- start{run, err}
		if err != nil {
			return err
		}
		f.Begun()
		return c.wait(ctx, run.ID, ended)
	})
	if err != nil {
		return runs.Run{}, wireError(err)
	}
	c.log.Info("job triggered", "job", job, "caller", caller.Login, "caller_uid", caller.UID)
	select {
	case s := <-started:
		return s.run, s.err
	case <-ctx.Done():
		return runs.Run{}, context.Cause(ctx)
	}
}

// Pause is `agent cron pause` and resume.
func (c *Cron) Pause(_ context.Context, job string, paused bool) error {
	if paused {
		return wireError(c.sched.Pause(job))
	}
	return wireError(c.sched.Resume(job))
}

// wireError gives errors that a caller can act on their HTTP status and a hint.
func wireError(err error) error {
	for known, e := range map[error]api.Error{
		scheduler.ErrUnknownJob: {Status: http.StatusNotFound, Hint: "agent cron list"},
		scheduler.ErrBusy:       {Status: http.StatusConflict, Hint: "agent ps"},
		scheduler.ErrNotRunning: {Status: http.StatusServiceUnavailable},
	} {
		if errors.Is(err, known) {
			e.Message, e.Exit = err.Error(), 125
			return &e
		}
	}
	return err
}
