package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/scheduler"
)

// List is `agent cron list`.
func (c *cronParts) List(ctx context.Context) (api.CronTable, error) {
	st := c.watcher.State()
	t := api.CronTable{File: st.Path, State: string(st.Kind), Jobs: []api.CronJob{}}
	if st.Err != nil {
		t.Faults = strings.Split(st.Err.Error(), "\n")
	}
	for _, w := range st.Table.Warnings {
		t.Warnings = append(t.Warnings, w.String())
	}
	t.Warnings = append(t.Warnings, c.people.unknown(st.Table)...)
	t.Held = orNil(c.sched.HeldUntil())
	for _, s := range c.sched.Snapshot() {
		t.Jobs = append(t.Jobs, cronJob(s))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := c.who.open(); err == nil {
		for i := range t.Jobs {
			if t.Jobs[i].On == "" {
				t.Jobs[i].On = "one"
			}
		}
		c.who.last(ctx, t.Jobs)
	}
	for i := range t.Jobs {
		t.Jobs[i].On = cmp.Or(t.Jobs[i].On, "all")
	}
	return t, nil
}

func cronJob(s scheduler.JobState) api.CronJob {
	j := api.CronJob{Name: s.Job.Name, Schedule: s.Job.Expr, Timezone: s.Job.Location.String(), Runs: program(s.Job), On: s.Job.On.String(),
		Next: orNil(s.Next), Last: orNil(s.Last.Due), Skipped: s.Counts.Overlapped, Since: orNil(s.Counts.Since), Missed: s.Counts.Missed, MissedAt: orNil(s.Counts.LastMissed), Failures: int(s.Counts.Failed)}
	if !s.Last.Started.IsZero() {
		j.Result = "good"
		if s.Last.Err != nil {
			j.Result = s.Last.Err.Error()
		}
	}
	j.Note = note(s)
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
		return fmt.Sprintf("running since %s, for %s", since.Format(time.TimeOnly), time.Since(since).Round(time.Second))
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

// program is what a job runs, without arguments: they may hold secrets.
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

// Next is `agent cron next`. What will not start as things are says so.
func (c *cronParts) Next(_ context.Context, from time.Time, n int, job string) ([]api.Occurrence, error) {
	list, err := cron.Occurrences(c.watcher.State().Table, from, n, job)
	not := map[string]string{}
	for _, s := range c.sched.Snapshot() {
		if s.Off != "" || !s.Paused.IsZero() {
			not[s.Job.Name] = note(s)
		}
	}
	for i, o := range list {
		if why := not[o.Job]; why != "" {
			list[i].Note = strings.TrimSuffix(why+"; "+o.Note, "; ")
		}
	}
	return list, err
}

// Cost is `agent cron list --cost`.
func (c *cronParts) Cost(_ context.Context, instances int) (api.CronCost, error) {
	_, err := c.who.open()
	var jobs []scheduler.Job
	for _, s := range c.sched.Snapshot() {
		if s.Off == "" && !s.Gone && (s.Job.On == scheduler.OnOne || err == nil) {
			jobs = append(jobs, s.Job)
		}
	}
	return cron.MonthlyCost(jobs, instances), nil
}

// Trigger is `agent cron run`.
func (c *cronParts) Trigger(ctx context.Context, who api.Caller, job string) (supervisor.Run, error) {
	c.log.Info("job triggered", "job", job, "caller", who.Login, "caller_uid", who.UID)
	r, err := c.launcher.Manual(ctx, job, c.sched.Trigger)
	return r, wireError(err)
}

// Pause is `agent cron pause` and resume.
func (c *cronParts) Pause(_ context.Context, job string, paused bool) error {
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
