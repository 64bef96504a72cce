package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/scheduler"
)

// notices turns what happened to jobs into what people are told.
type notices struct {
	notifier *notify.Notifier
	inst     *platform.Instance
	tail     bool     // somebody wants the last lines of output
	names    []string // of the targets

	to func(job string) []string // who is told of a job, as the cron file says; set before anything is told
}

func newNotices(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, log *slog.Logger) (*notices, error) {
	n := &notices{inst: inst}
	c := notify.Config{Log: log, Cooldown: cfg.Cooldown, Expand: func(s string) (string, error) { return expand(env, s) }}
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

// expand resolves ${NAME} from the application's environment; a name that is
// not there is an error, so that no message goes to half an address.
func expand(env *appenv.Resolver, s string) (string, error) {
	if !strings.Contains(s, "${") {
		return s, nil
	}
	e, err := env.Resolve(context.Background())
	if err != nil {
		return "", err
	}
	var missing error
	out := replaceReferences(s, func(name string) string {
		v, ok := e.Lookup(name)
		if !ok {
			missing = errors.Join(missing, errors.New("the application has no variable "+name))
		}
		return v
	})
	return out, missing
}

// replaceReferences puts in the value of each ${NAME}. Unlike os.Expand it leaves any other "$" alone: a secret may
// have one, and what follows it must not be told as the name of a variable that there is none of.
func replaceReferences(s string, value func(name string) string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(before + value(name))
		s = after
	}
}

func (n *notices) send(e notify.Event) {
	e.To = n.to(e.Job)
	e.Environment = n.inst.Facts().EnvironmentName
	e.Host = hostName(n.inst)
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
