package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/scheduler"
)

// notices turns what happened to jobs into what people are told.
type notices struct {
	notifier *notify.Notifier
	app      *app.App
	tail     bool     // somebody wants the last lines of output
	names    []string // of the targets

	to func(job string) []string // who is told of a job, as the cron file says; set before anything is told
}

func newNotices(cfg config.Config, a *app.App, log *slog.Logger) (*notices, error) {
	n := &notices{app: a}
	c := notify.Config{Log: log, Cooldown: cfg.Cooldown, Expand: a.Expand}
	for _, t := range cfg.Notify {
		target := notify.Target{Type: notify.Type(t.Type), Name: t.Name, URL: t.URL, StartURL: t.StartURL, FailURL: t.FailURL, Token: t.Token, Jobs: t.Jobs, Tail: t.Output}
		for _, on := range t.On {
			target.On = append(target.On, notify.Kind(on))
		}
		n.tail = n.tail || t.Output
		c.Targets = append(c.Targets, target)
	}
	var err error
	n.notifier, err = notify.New(c)
	if err == nil {
		for _, t := range n.notifier.Status().Targets {
			n.names = append(n.names, t.Name)
		}
	}
	return n, err
}

func (n *notices) send(e notify.Event) {
	e.To = n.to(e.Job)
	e.Environment = n.app.Facts().EnvironmentName
	e.Host = n.app.Name()
	n.notifier.Notify(e)
}

// unknown says which targets the cron file names that there are none of.
func (n *notices) unknown(t scheduler.Table) (warnings []string) {
	for _, j := range t.Jobs {
		for _, name := range j.Notify {
			if !slices.Contains(n.names, name) {
				warnings = append(warnings, fmt.Sprintf("line %d: job %s: notify names %q, which the agent's configuration does not", j.Line, j.Name, name))
			}
		}
	}
	return warnings
}

// ended tells of a job's run that has ended for good, and may be a recovery from how
// the one before it ended elsewhere.
func (n *notices) ended(r supervisor.Run, before notify.Kind) {
	e := notify.Event{Job: r.Name, Kind: notify.Succeeded, At: r.Ended, Run: r.ID, Exit: r.ExitCode, Reason: launch.Describe(r), Took: r.Took(), Before: before}
	if e.Reason == fmt.Sprintf("exit %d", e.Exit) {
		e.Reason = "" // the notice says it itself
	}
	if r.ExitCode != 0 || r.State == supervisor.StateLost {
		e.Kind = notify.Failed
	}
	if n.tail {
		e.Tail = lastLines(r)
	}
	n.send(e)
}

// event tells of what no run can tell.
func (n *notices) event(e scheduler.Event) {
	kind, ok := map[scheduler.EventKind]notify.Kind{scheduler.Overdue: notify.Overdue, scheduler.Missed: notify.Missed, scheduler.GaveUp: notify.Failed}[e.Kind]
	if ok {
		n.send(notify.Event{Job: e.Job, Kind: kind, At: time.Now(), Reason: e.Text})
	}
}

// lastLines is the end of a run's output.
func lastLines(r supervisor.Run) string {
	out, err := supervisor.OpenOutput(r)
	if err != nil {
		return ""
	}
	defer out.Close()
	if out.Tail(20) != nil {
		return ""
	}
	b, _ := io.ReadAll(io.LimitReader(out, 4<<10))
	return string(b)
}
