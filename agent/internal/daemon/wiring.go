package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
)

// Here the configuration is translated into each part's own; no part imports it.

// Check reports, with its line, what Run would refuse of a configuration, or what only a later run would find.
func Check(cfg config.Config, fault func(key, format string, a ...any)) {
	h := healthConfig(cfg)
	h.FindTarget = func(context.Context) (string, error) { return "", nil }
	h.Check(fault)
	metricsConfig(cfg).Check(fault)
	if err := cron.CheckClaims(cfg.Cron.Claims); err != nil {
		fault("cron.claims", "%v", err)
	}
	for i, t := range notifyTargets(cfg) {
		t.Check(func(key, format string, a ...any) { fault(fmt.Sprintf("notify[%d].%s", i, key), format, a...) })
	}
}

func appConfig(cfg config.Config) app.Config {
	return app.Config{Dir: cfg.App.Dir, User: cfg.App.User, EnvFiles: cfg.App.EnvFiles,
		Target: cfg.Health.Target, Path: cfg.Health.Path, Host: cfg.Health.Host, Headers: cfg.Health.Headers}
}

func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region,
		CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

func newLauncher(cfg config.Config, a *app.App, client *runs.Client, log *slog.Logger) *launch.Launcher {
	return &launch.Launcher{Profile: a.Env().Profile, Runs: client, Version: a.Instance().VersionLabel, Host: a.Name,
		Audit: cfg.Exec.Audit, Log: log,
		Idle: cfg.Exec.Idle, Session: cfg.Exec.Session, NoNewPrivs: cfg.Exec.NoNewPrivileges}
}

func newCron(cfg config.Config, a *app.App, aws *awsconf.AWS, client *runs.Client, l *launch.Launcher,
	now func() time.Time, log *slog.Logger) (*cron.Cron, error) {
	zone, err := time.LoadLocation(cfg.Cron.Timezone)
	if err != nil {
		return nil, err
	}
	files := []string{cfg.Cron.File}
	if cfg.Cron.File == config.Default().Cron.File {
		files = append(files, "crontab")
	}
	return cron.New(cron.Config{App: a, AWS: aws, Runs: client, Begin: l.Begin, Log: log,
		Files: files, Location: zone, Claims: cfg.Cron.Claims, Limit: cfg.Cron.Limit,
		StateDir: cfg.StateDir, HoldFile: strings.TrimSuffix(cfg.Socket, ".sock") + "-held",
		NoRuns: noRuns(cfg, client), Notify: notifyTargets(cfg), Cooldown: cfg.Cooldown, Now: now})
}

func notifyTargets(cfg config.Config) (list []notify.Target) {
	for _, t := range cfg.Notify {
		target := notify.Target{Type: notify.Type(t.Type), Name: t.Name, Token: t.Token, Jobs: t.Jobs, Tail: t.Output,
			URL: t.URL, StartURL: t.StartURL, FailURL: t.FailURL}
		for _, on := range t.On {
			target.On = append(target.On, notify.Kind(on))
		}
		list = append(list, target)
	}
	return list
}

func newDrain(cfg config.Config, a *app.App, aws *awsconf.AWS, client *runs.Client, c *cron.Cron,
	log *slog.Logger) *drain.Drain {
	d := drain.Config{Log: log, File: filepath.Join(filepath.Dir(cfg.Socket), "drain"),
		Hold: c.Hold, Release: c.Release, Runs: client.List, Connections: a.Connections}
	if a.Instance().AsksMetadata() {
		d.Metadata = aws.Metadata
	}
	return drain.New(d)
}

// healthConfig is what the file says.
func healthConfig(cfg config.Config) health.Config {
	return health.Config{
		Target: cfg.Health.Target, HostSetting: cfg.Health.Host,
		NginxFile: filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Headers:   cfg.Health.Headers, Method: cfg.Health.Method, Expect: cfg.Health.Expect, Path: cfg.Health.Path,
		Timeout: cfg.Health.Timeout, Grace: cfg.Health.Grace, Failures: cfg.Health.Failures,
		UnknownHealthy: cfg.Health.Unknown == "healthy",
	}
}

func newHealth(cfg config.Config, a *app.App, draining func(bool) bool, log *slog.Logger) (*health.Checker, error) {
	c := healthConfig(cfg)
	c.FindTarget, c.Host, c.Draining, c.Log = a.Page, a.Host, draining, log
	return health.New(c)
}

// metricsConfig is what the file says.
func metricsConfig(cfg config.Config, counters ...metrics.Counter) metrics.Config {
	m := cfg.Metrics
	c := metrics.Config{Namespace: m.Namespace, Dimensions: m.Dimensions,
		PerInstance: m.PerInstance, CWAgent: m.CWAgent,
		Interval: m.Interval, Sample: m.Sample, Send: m.Send, Counters: counters}
	for _, g := range m.Groups {
		c.Groups = append(c.Groups, metrics.Group(g))
	}
	return c
}

func newMetrics(cfg config.Config, a *app.App, aws *awsconf.AWS, check *health.Checker, c *cron.Cron,
	client *runs.Client, log *slog.Logger) (*metrics.Metrics, error) {
	m := metricsConfig(cfg, metrics.Counter{Name: "health", Read: check.Samples},
		metrics.Counter{Name: "cron", Read: c.Samples})
	m.Connect, m.SpoolDir, m.Log = aws.CloudWatch, filepath.Join(cfg.StateDir, "spool"), log
	m.RunName = func(ctx context.Context, id string) (string, error) {
		r, err := client.Get(ctx, id)
		return r.Kind + " " + r.Name, err
	}
	return metrics.New(m, a)
}

// Application is the application, for a verb that asks no agent.
func Application(ctx context.Context, cfg config.Config) *app.App {
	o := platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region}
	return app.New(appConfig(cfg), platform.NewInstance(ctx, o))
}

// Metrics collects in a verb's own process, where no agent answers.
func Metrics(ctx context.Context, cfg config.Config) *metrics.Here {
	asked := health.Figures{LastProbe: time.Now()}
	c := metricsConfig(cfg, metrics.Counter{Name: "health", Read: asked.Samples},
		metrics.Counter{Name: "cron", Read: cron.ZeroSamples})
	o := platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region}
	if aws, err := newAWS(cfg); err == nil {
		o.IMDS = aws
	}
	return metrics.NewHere(ctx, c, app.New(appConfig(cfg), platform.NewInstance(ctx, o)))
}
