package daemon

import (
	"context"
	"errors"
	"net"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/runs"
)

// backend answers the routes of the local API out of the parts.
type backend struct {
	started  time.Time
	app      *app.App
	runs     *runs.Client
	launcher *launch.Launcher
	cron     *cron.Cron
	check    *health.Checker
	drain    *drain.Drain
	metrics  *metrics.Metrics
	callers  *callers
	deployed func() // called when a deployment may have moved the web process
}

var _ control.Backend = (*backend)(nil)

func (b *backend) Runs() control.Runs { return namedRuns{b.runs, b.app} }
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
	nginx := b.app.Instance().Nginx()
	o := health.Options{Checker: b.check, PrivateIP: privateIP(),
		Deployed: func(path string) health.Deployed { return health.Deployed(nginx.Check(path)) }}
	return balancerAnswer{health.AsLoadBalancer(ctx, o), b.drain.Reasons()}, nil
}

func (b *backend) Drain(ctx context.Context, reason string, shutdown bool) error {
	return b.drain.Drain(ctx, reason, shutdown)
}

func (b *backend) EndJobs(ctx context.Context) error          { return b.drain.EndJobs(ctx) }
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
	b.callers.Look()
	b.deployed()
	b.check.KeepFallback(ctx)
	b.cron.Reload()
	return nil
}

// privateIP is the address that a load balancer uses: that of the interface that leads out. Nothing is sent.
func privateIP() string {
	c, err := net.Dial("udp", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
