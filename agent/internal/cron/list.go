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
	"time"

	"beanstalk-agent/agent/internal/api"
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
	t.Warnings = append(t.Warnings, c.watcher.ignored()...)
	if f := c.cfg.App.Facts(); f.Beanstalk && !f.Worker && slices.ContainsFunc(st.Table.Jobs, anywhere) {
		t.Warnings = append(t.Warnings, "url: jobs run here; where a worker tier has the file too, its daemon runs "+
			"them as well: the key environments says where they run")
	}
	t.Held = orNil(c.sched.HeldUntil())
	for _, s := range c.sched.Snapshot() {
		t.Jobs = append(t.Jobs, cronJob(s))
	}
	on := "all"
	if _, err := c.fleet.open(); err == nil {
		on = "one"
	}
	t.Group, _ = c.fleet.group()
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

// anywhere reports whether j is a job with a url that may run in each environment.
func anywhere(j scheduler.Job) bool { return j.URL != "" && len(j.Environments) == 0 }

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
		return "paused here since " + clock(s.Paused)
	case s.Gone:
		return "not in the cron file any more, still running"
	case len(s.Running) > 0:
		run := s.Running[0]
		if run.Waits != "" {
			return fmt.Sprintf("waiting for %s, since %s", run.Waits, clock(run.Started))
		}
		return "running since " + clock(run.Started)
	case s.Waiting != nil:
		return "waits for " + s.Waiting.For
	case !s.Retry.IsZero():
		return "tried again at " + s.Retry.UTC().Format("15:04:05 MST")
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

// Next is `agent cron next`. A job that is off or paused says so, as far as its register was asked and has answered.
func (c *Cron) Next(ctx context.Context, from time.Time, n int, job string) ([]api.Occurrence, error) {
	list, err := Occurrences(c.watcher.State().Table, from, n, job)
	var shared []string
	for _, s := range c.sched.Snapshot() {
		if s.Job.On != scheduler.OnAll && s.Off == "" && (job == "" || job == s.Job.Name) {
			shared = append(shared, s.Job.Name)
		}
	}
	idle := c.fleet.paused(ctx, shared)
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
