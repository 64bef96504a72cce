package cron

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// notices makes of what happened to jobs what the configured targets get.
type notices struct {
	*notify.Notifier
	tail       bool // a target wants the last lines of output
	targets    []string
	recipients func(job string) []string // as the cron file says
}

func newNotices(cfg Config, recipients func(job string) []string) (*notices, error) {
	n := &notices{recipients: recipients}
	n.tail = slices.ContainsFunc(cfg.Notify, func(t notify.Target) bool { return t.Tail })
	var err error
	n.Notifier, err = notify.New(notify.Config{Log: cfg.Log, Cooldown: cfg.Cooldown, Expand: cfg.App.Expand,
		Targets: cfg.Notify, Where: whereFrom(cfg.App)})
	if err != nil {
		return nil, err
	}
	for _, t := range n.Status().Targets {
		n.targets = append(n.targets, t.Name)
	}
	return n, nil
}

// nameLimit is how long after the agent's start a notice waits for the instance's name.
const nameLimit = time.Minute

// whereFrom names the instance and the environment. After a boot both may be known later than a job fails.
func whereFrom(a *app.App) func(context.Context) (host, environment string) {
	from := time.Now()
	return func(ctx context.Context) (string, string) {
		return a.AwaitName(ctx, time.Until(from.Add(nameLimit))), a.Facts().EnvironmentName
	}
}

func (n *notices) send(e notify.Event) {
	e.To = n.recipients(e.Job)
	n.Notify(e)
}

// maxUnknown is how many targets unknown lists. A reference gives each of many jobs a list of thousands.
const maxUnknown = 100

// unknown lists the targets that the cron file names and the configuration does not have, each where it stands first.
func (n *notices) unknown(t scheduler.Table) (warnings []string) {
	seen := map[string]bool{}
	for _, j := range t.Jobs {
		for _, name := range j.Notify {
			if slices.Contains(n.targets, name) || seen[name] {
				continue
			}
			if len(seen) == maxUnknown {
				return append(warnings, "notify names more targets that the agent's configuration does not")
			}
			seen[name] = true
			warnings = append(warnings, fmt.Sprintf(
				"line %d: job %s: notify names %.100q, which the agent's configuration does not", j.Line, j.Name, name))
		}
	}
	return warnings
}

// ended reports a job's run that no further attempt follows. before is how the job's run before it ended on another
// instance: the notice may be of a recovery. An interrupted run is no failure: its slot was missed, or is tried again
// when this machine is back.
func (n *notices) ended(r runs.Run, before notify.Kind, again bool) {
	e := notify.Event{Job: r.Name, Kind: notify.Succeeded, At: r.Ended, Run: r.ID, Exit: r.ExitCode,
		Reason: runs.Describe(r), Took: r.Took(), Before: before}
	if e.Reason == fmt.Sprintf("exit %d", e.Exit) {
		e.Reason = "" // the notice has it already
	}
	switch {
	case r.Interrupted():
		e.Kind, e.Exit = notify.Missed, 0
		hint := "; it is not run again, as retries, retry_on_loss and on_owner_loss: rerun decide"
		if again {
			hint = "; it is tried again when this machine is back"
		}
		e.Reason += hint
	case r.ExitCode != 0, r.State == runs.StateLost:
		e.Kind = notify.Failed
	}
	if n.tail {
		e.Tail = lastLines(r)
	}
	n.send(e)
}

// event reports what no run can report.
func (n *notices) event(e scheduler.Event) {
	kind, ok := map[scheduler.EventKind]notify.Kind{
		scheduler.Overdue: notify.Overdue, scheduler.Missed: notify.Missed, scheduler.GaveUp: notify.Failed}[e.Kind]
	if ok {
		n.send(notify.Event{Job: e.Job, Kind: kind, At: time.Now(), Reason: e.Text})
	}
}

// lastLines is the end of a run's output.
func lastLines(r runs.Run) string {
	out, err := runs.OpenOutput(r)
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
