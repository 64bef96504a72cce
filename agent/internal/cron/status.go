package cron

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/collectors"
	"beanstalk-agent/scheduler"
)

// Status says how the cron file, the claims, the jobs and the notices stand.
func (c *Cron) Status(context.Context) []api.Line {
	lines := slices.Concat(c.fileLines(), c.fleet.status(), c.doubles.lines())
	for _, text := range c.watcher.ignored() {
		lines = append(lines, api.NewLine("cron", api.Warn, "", "%s", text))
	}
	return append(lines, c.OwnStatus()...)
}

// OwnStatus is the part of Status that is in memory: no file is read for it, and nobody is asked.
func (c *Cron) OwnStatus() (lines []api.Line) {
	if until := c.sched.HeldUntil(); !until.IsZero() {
		lines = append(lines, api.NewLine("cron", api.Warn, "agent release",
			"starts are held until %s", until.Format(time.DateTime)))
	}
	for _, j := range c.sched.Snapshot() {
		if err := j.Last.Err; err != nil && j.Off == "" {
			hint := ""
			if _, ran := errors.AsType[*runError](err); ran || errors.Is(err, scheduler.ErrLost) {
				hint = "agent logs " + j.Job.Name
			}
			lines = append(lines, api.NewLine("cron", api.Warn, hint, "%s: %v", j.Job.Name, err))
		}
		if j.Counts.Missed > 0 {
			lines = append(lines, api.NewLine("cron", api.Warn, "", "%s: %d missed, the last at %s",
				j.Job.Name, j.Counts.Missed, j.Counts.LastMissed.Format(time.DateTime)))
		}
	}
	return append(lines, c.notices.lines()...)
}

// Samples appends what was counted since the last call. Without jobs it is nothing: five series that are always 0 are
// five series paid for.
func (c *Cron) Samples(out []collectors.Sample) []collectors.Sample {
	if n := c.counts.exec.Swap(0); n > 0 { // only then: most environments see one in a month
		out = append(out, collectors.Sample{Name: "exec_runs", Unit: collectors.Count, Value: float64(n)})
	}
	before := len(out)
	out = c.counts.take(out)
	counted := func(s collectors.Sample) bool { return s.Value != 0 }
	if len(c.watcher.State().Table.Jobs) == 0 && !slices.ContainsFunc(out[before:], counted) {
		return out[:before]
	}
	return out
}

func (c *Cron) fileLines() []api.Line {
	st := c.watcher.State()
	jobs := api.Count(len(st.Table.Jobs), "job")
	if err := st.Writer.Err(); err != nil {
		return []api.Line{api.NewLine("cron", api.Bad, appenv.Hint(err), "%s of %s do not run: %v", jobs, st.Path, err)}
	}
	switch st.Kind {
	case Absent:
		return []api.Line{api.NewLine("cron", api.Note, "", "no jobs: there is no %s", st.Path)}
	case Faulty:
		if st.Table.Partial {
			return []api.Line{api.NewLine("cron", api.Bad, "agent cron check "+st.Path,
				"faulty jobs of %s are left out; the other %s run", st.Path, jobs)}
		}
		return []api.Line{api.NewLine("cron", api.Bad, "agent cron check "+st.Path,
			"%s is not taken; in force: %s of the last good one", st.Path, jobs)}
	case Loaded:
		return []api.Line{api.NewLine("cron", api.Good, "", "%s from %s", jobs, st.Path)}
	}
	return nil
}

func (n *notices) lines() []api.Line {
	s := n.Status()
	var lines []api.Line
	if s.Dropped > 0 {
		lines = append(lines, api.NewLine("notices", api.Warn, "", "%d dropped: too many at once", s.Dropped))
	}
	for _, t := range s.Targets {
		state, text := api.Good, fmt.Sprintf("%s: %d sent, %d waiting, %d dropped", t.Name, t.Sent, t.Queued, t.Dropped)
		if t.LastError != "" {
			state, text = api.Warn, text+": "+t.LastError
		}
		lines = append(lines, api.NewLine("notices", state, "", "%s", text))
	}
	return lines
}
