package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// backend answers the routes of the local API out of the parts.
type backend struct {
	started  time.Time
	app      *app.App
	inst     *platform.Instance
	env      *appenv.Resolver
	runs     spooled
	launcher *launch.Launcher
	cron     *cron.Cron
	check    *health.Checker
	drain    *drain.Drain
	metrics  *metrics.Metrics
	deployed func() // called when a deployment may have moved the web process
	cfg      config.Config
}

var _ control.Backend = (*backend)(nil)

func (b *backend) Runs() control.Runs { return b.runs }
func (b *backend) Cron() control.Cron { return b.cron }

func (b *backend) Prepare(ctx context.Context, who api.Caller, req api.ExecRequest) (control.Prepared, error) {
	return b.launcher.Prepare(ctx, who, req)
}

func (b *backend) Metrics(context.Context) (any, error) { return b.metrics.Preview(), nil }

func (b *backend) MetricsCost(_ context.Context, instances int) (any, error) {
	return b.metrics.Cost(instances), nil
}

func (b *backend) Capacity(_ context.Context, target float64) (any, error) {
	return b.metrics.Capacity(target)
}

func (b *backend) Health(ctx context.Context) (any, error) {
	return healthAnswer{b.check.Check(ctx), b.drain.Reasons()}, nil
}

func (b *backend) HealthHistory(context.Context) (any, error) { return b.check.History(), nil }

func (b *backend) HealthAsLoadBalancer(ctx context.Context) (any, error) {
	return balancerAnswer{health.AsLoadBalancer(ctx, health.Options{Checker: b.check, PrivateIP: privateIP()}), b.drain.Reasons()}, nil
}

func (b *backend) Drain(ctx context.Context, reason string, shutdown bool) error {
	return b.drain.Drain(ctx, reason, shutdown)
}

func (b *backend) Undrain(ctx context.Context) error          { return b.drain.Undrain(ctx) }
func (b *backend) Departure(ctx context.Context) (any, error) { return b.drain.Departure(ctx) }
func (b *backend) Hold(ctx context.Context, limit time.Duration) error {
	return b.drain.Hold(ctx, limit)
}

// Release starts jobs again, with the table that is there now.
func (b *backend) Release(ctx context.Context) error {
	return errors.Join(b.Reload(ctx), b.drain.Release(ctx))
}

// healthAnswer is the application's verdict, also while load balancers are answered 503: drain, repair, ask, undrain is
// how an instance is mended.
type healthAnswer struct {
	health.Verdict
	Draining []drain.Reason `json:"draining,omitempty"`
}

type balancerAnswer struct {
	health.Report
	Draining []drain.Reason `json:"draining,omitempty"`
}

// Reload looks at what a deployment may have changed.
func (b *backend) Reload(ctx context.Context) error {
	b.deployed()
	b.check.KeepFallback(ctx)
	b.cron.Reload()
	return nil
}

// Environment is the answer to `agent env`.
func (b *backend) Environment(ctx context.Context, names []string, values bool) (api.Environment, error) {
	p, err := b.env.Profile(ctx, appenv.ProfileOptions{})
	if err != nil {
		return api.Environment{}, api.Unavailable(err)
	}
	sources, err := b.env.Resolve(ctx)
	if err != nil {
		return api.Environment{}, api.Unavailable(err)
	}
	out := api.Environment{Variables: []api.Variable{}, Warnings: p.Warnings}
	for _, assignment := range p.Env {
		name, value, _ := strings.Cut(assignment, "=")
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		v := api.Variable{Name: name, Length: len(value), Source: sources.Source(name)}
		if v.Source == "" {
			v.Source = "this host"
		}
		if values {
			v.Value = &value
		}
		out.Variables = append(out.Variables, v)
	}
	return out, nil
}

// EnvironmentDiff is the answer to `agent env --diff`.
func (b *backend) EnvironmentDiff(ctx context.Context, values bool) (api.EnvironmentDiff, error) {
	d, err := b.env.Diff(ctx)
	if err != nil && !b.inst.Facts().Beanstalk {
		return api.EnvironmentDiff{}, &api.Error{Status: http.StatusServiceUnavailable, Message: err.Error(),
			Hint: "only on Elastic Beanstalk is it known which process that is"}
	}
	if err != nil {
		return api.EnvironmentDiff{}, api.Unavailable(err)
	}
	out := api.EnvironmentDiff{PIDs: d.PIDs, Unread: d.Unread, Differences: []api.Difference{}}
	for _, v := range d.Vars {
		if v.State == appenv.Same {
			out.Same++
			continue
		}
		diff := api.Difference{Name: v.Name, Kind: string(v.State)}
		if values {
			web, here := v.Values()
			if v.State != appenv.OnlyRun {
				diff.Web = &web
			}
			if v.State != appenv.OnlyWeb {
				diff.Here = &here
			}
		}
		out.Differences = append(out.Differences, diff)
	}
	return out, nil
}

// spooled is the supervisor with errors that a person can act on. Output is read
// by the agent from the files themselves: nobody is in the data path.
type spooled struct{ *runs.Client }

func (s spooled) Logs(ctx context.Context, w io.Writer, id string, lines int, follow bool) error {
	return s.noOutput(id, s.Client.Logs(ctx, w, id, lines, follow))
}

func (s spooled) noOutput(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("run %q has no output here", id),
			Hint: "the output of an exec went to its own stdout; a detached run and a job have a file"}
	}
	return notFound(id, err)
}

func (s spooled) Follow(ctx context.Context, w io.Writer, id string, from runs.Position, begin func(int64)) error {
	return s.noOutput(id, s.Client.Follow(ctx, w, id, from, begin))
}

func (s spooled) Get(ctx context.Context, id string) (runs.Run, error) {
	r, err := s.Client.Get(ctx, id)
	return r, notFound(id, err)
}

func (s spooled) Wait(ctx context.Context, id string) (runs.Run, error) {
	r, err := s.Client.Wait(ctx, id)
	return r, notFound(id, err)
}

func (s spooled) Stop(ctx context.Context, id string, grace time.Duration) (runs.Run, error) {
	r, err := s.Client.Stop(ctx, id, grace)
	return r, notFound(id, err)
}

func (s spooled) Attach(ctx context.Context, id string, size session.Size, h runs.Handover) (runs.Run, error) {
	r, err := s.Client.Attach(ctx, id, size, h)
	return r, notFound(id, err)
}

func notFound(id string, err error) error {
	if errors.Is(err, runs.ErrUnknown) {
		return &api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("there is no run %q", id), Hint: "agent ps --all lists them"}
	}
	if r, ok := errors.AsType[*runs.Refused](err); ok {
		return &api.Error{Status: http.StatusConflict, Message: r.Message, Hint: r.Hint, Exit: r.Code}
	}
	return err
}
