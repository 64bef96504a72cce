package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// Status is the one screen: each part says how it stands in a line of its own. For
// self, the agent's own watchdog, the application is not asked: it would be all day long.
func (b *backend) Status(ctx context.Context, self bool) api.Status {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s := api.Status{Version: buildinfo.Version(), PID: os.Getpid(), Started: b.started, Ready: true}
	answers := func(ctx context.Context) []api.Line { return b.check.Status(ctx, !self) }
	for _, part := range []func(context.Context) []api.Line{
		b.app.Status, b.runLines, b.cronLines, b.noticeLines, answers, b.drain.Status, b.metrics.Status,
	} {
		s.Lines = append(s.Lines, part(ctx)...)
	}
	return s
}

func (b *backend) runLines(ctx context.Context) []api.Line {
	info, err := b.runs.Info(ctx)
	if err != nil {
		return []api.Line{api.NewLine("runs", api.Bad, "sudo systemctl status agent-runs", "the supervisor does not answer: %v", err)}
	}
	live, err := b.runs.List(ctx, runs.Filter{Live: true})
	if err != nil {
		return []api.Line{api.NewLine("runs", api.Bad, "", "%v", err)}
	}
	text := fmt.Sprintf("%d running; contained by %s", len(live), info.Place)
	if info.Version != buildinfo.Version() {
		return []api.Line{api.NewLine("runs", api.Note, "it is replaced when its last run ends", "%s; the supervisor is of version %s", text, info.Version)}
	}
	return []api.Line{api.NewLine("runs", api.Good, "", "%s", text)}
}

func (b *backend) cronLines(context.Context) []api.Line {
	st := b.cron.watcher.State()
	var lines []api.Line
	switch st.Kind {
	case cron.Absent:
		lines = append(lines, api.NewLine("cron", api.Note, "", "no jobs: there is no %s", st.Path))
	case cron.Faulty:
		lines = append(lines, api.NewLine("cron", api.Bad, "agent cron check "+st.Path, "%s is not taken; in force: %s of the last good one", st.Path, api.Count(len(st.Table.Jobs), "job")))
	case cron.Loaded:
		lines = append(lines, api.NewLine("cron", api.Good, "", "%s from %s", api.Count(len(st.Table.Jobs), "job"), st.Path))
	}
	lines = append(lines, b.cron.who.lines()...)
	if until := b.cron.sched.HeldUntil(); !until.IsZero() {
		lines = append(lines, api.NewLine("cron", api.Warn, "agent release", "starts are held until %s", until.Format(time.DateTime)))
	}
	for _, j := range b.cron.sched.Snapshot() {
		if err := j.Last.Err; err != nil && j.Off == "" {
			hint := ""
			if _, began := errors.AsType[*launch.RunError](err); began || errors.Is(err, scheduler.ErrLost) {
				hint = "agent logs " + j.Job.Name
			}
			lines = append(lines, api.NewLine("cron", api.Warn, hint, "%s: %v", j.Job.Name, err))
		}
		if j.Counts.Missed > 0 {
			lines = append(lines, api.NewLine("cron", api.Warn, "", "%s: %d missed, the last at %s", j.Job.Name, j.Counts.Missed, j.Counts.LastMissed.Format(time.DateTime)))
		}
	}
	return lines
}

func (b *backend) noticeLines(context.Context) []api.Line {
	s := b.people.notifier.Status()
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
