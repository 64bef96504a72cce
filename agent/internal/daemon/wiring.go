package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler/yamlnode"
)

// Here the configuration is translated into each part's own; no part imports it.

// Check reports, with its line, what Run would refuse of a configuration, or what only a later run would find.
func Check(cfg config.Config, fault func(key, format string, a ...any)) {
	h := healthConfig(cfg)
	h.FindTarget = func(context.Context) (string, error) { return "", nil }
	h.Check(fault)
	metricsConfig(cfg).Check(fault)
	for i, name := range cfg.Metrics.SendOnly {
		if !slices.Contains(metrics.Names, name) {
			hint := cmp.Or(yamlnode.Suggest(name, metrics.Names), "see metrics.md, \"Sent\"")
			fault(fmt.Sprintf("metrics.send_only[%d]", i), "no metric %q is sent; %s", name, hint)
		}
	}
	for _, c := range []struct {
		key string
		err error
	}{
		{"aws.region", awsconf.CheckRegion(cfg.AWS.Region)},
		{"aws.cloudwatch_endpoint", awsconf.CheckEndpoint("CloudWatch endpoint", cfg.AWS.CloudWatchEndpoint)},
		{"aws.s3_endpoint", awsconf.CheckEndpoint("S3 endpoint", cfg.AWS.S3Endpoint)},
		{"socket", fdconn.CheckPath(cfg.Socket)},
		{"cron.claims", cron.CheckClaims(cfg.Cron.Claims)},
		{"cron.group", cron.CheckGroup(cfg.Cron.Group)},
	} {
		if c.err != nil {
			fault(c.key, "%v", c.err)
		}
	}
	for i, t := range notifyTargets(cfg) {
		t.Check(func(key, format string, a ...any) { fault(fmt.Sprintf("notify[%d].%s", i, key), format, a...) })
	}
}

func appConfig(cfg config.Config) app.Config {
	return app.Config{Dir: cfg.App.Dir, User: cfg.App.User, EnvFiles: cfg.App.EnvFiles,
		Target: cfg.Health.Target, Page: cfg.Health.Page(), Host: cfg.Health.Host, Headers: cfg.Health.Headers}
}

func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region,
		CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

// common is what the parts are made from.
type common struct {
	cfg   config.Config
	app   *app.App
	aws   *awsconf.AWS
	runs  *runs.Client
	start launch.Runs
	log   *slog.Logger
}

func (m common) launcher() *launch.Launcher {
	e := m.cfg.Exec
	return &launch.Launcher{Profile: m.app.Env().Profile, Runs: m.start, Version: m.app.Instance().VersionLabel,
		Host: m.app.LastingName, Audit: e.Audit, Log: m.log, Idle: e.Idle, Session: e.Session,
		NoNewPrivs: e.NoNewPrivileges}
}

func (m common) cron(begin cron.Begin, now func() time.Time, leaving func() bool) (*cron.Cron, error) {
	cfg := m.cfg
	zone, err := time.LoadLocation(cfg.Cron.Timezone)
	if err != nil {
		return nil, err
	}
	files := []string{cfg.Cron.File}
	if cfg.Cron.File == config.Default().Cron.File {
		files = append(files, "crontab")
	}
	return cron.New(cron.Config{App: m.app, AWS: m.aws, Runs: m.runs, Begin: begin, Log: m.log,
		Files: files, Location: zone, Claims: cfg.Cron.Claims, Limit: cfg.Cron.Limit,
		Group: cfg.Cron.Group, ShareOutput: cfg.Cron.ShareOutput,
		StateDir: cfg.StateDir, HoldFile: strings.TrimSuffix(cfg.Socket, ".sock") + "-held",
		NoRuns: noRuns(cfg, m.runs), Notify: notifyTargets(cfg), Cooldown: cfg.Cooldown, Now: now,
		Leaving: leaving})
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

func (m common) drain(c *cron.Cron) *drain.Drain {
	d := drain.Config{Log: m.log, File: filepath.Join(filepath.Dir(m.cfg.Socket), "drain"),
		Hold: c.Hold, Release: c.Release, Runs: m.runs.List, Connections: m.app.Connections,
		Interrupt: m.runs.Interrupt, Extend: lifecycle.Extend}
	if m.app.Instance().AsksMetadata() {
		d.Metadata = m.aws.Metadata
	}
	return drain.New(d)
}

// healthConfig is what the file says.
func healthConfig(cfg config.Config) health.Config {
	return health.Config{
		Target: cfg.Health.Target, HostSetting: cfg.Health.Host,
		NginxFile: filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Headers:   cfg.Health.Headers, Method: cfg.Health.Method, Expect: cfg.Health.Expect, Path: cfg.Health.Path,
		EarlierPath: cfg.Health.EarlierPath(),
		Timeout:     cfg.Health.Timeout, Grace: cfg.Health.Grace, Failures: cfg.Health.Failures,
		UnknownHealthy: cfg.Health.Unknown == "healthy",
	}
}

func (m common) health(draining func(bool) bool) (*health.Checker, error) {
	c := healthConfig(m.cfg)
	c.FindTarget, c.Host, c.Names, c.Draining, c.Log = m.app.Page, m.app.Host, m.app.Names, draining, m.log
	c.Process = func(ctx context.Context) (p health.Process, ok bool) {
		if w := m.app.Worker(ctx); w != nil {
			return health.Process(*w), true
		}
		return p, false
	}
	return health.New(c)
}

// metricsConfig is what the file says.
func metricsConfig(cfg config.Config, counters ...metrics.Counter) metrics.Config {
	m := cfg.Metrics
	c := metrics.Config{Namespace: m.Namespace, Dimensions: m.Dimensions,
		PerInstance: m.PerInstance, CWAgent: m.CWAgent, SendOnly: m.SendOnly, Disks: m.Disks,
		Interval: m.Interval, Sample: m.Sample, Send: m.Send, Counters: counters}
	for _, g := range m.Groups {
		c.Groups = append(c.Groups, metrics.Group(g))
	}
	return c
}

func (m common) metrics(check *health.Checker, c *cron.Cron) (*metrics.Metrics, error) {
	cfg := metricsConfig(m.cfg, metrics.Counter{Name: "health", Read: check.Samples},
		metrics.Counter{Name: "cron", Read: c.Samples})
	cfg.Connect, cfg.SpoolDir, cfg.Log = m.aws.CloudWatch, filepath.Join(m.cfg.StateDir, "spool"), m.log
	cfg.RunName = func(ctx context.Context, id string) (string, error) {
		r, err := m.runs.Get(ctx, id)
		return r.Kind + " " + r.Name, err
	}
	return metrics.New(cfg, m.app)
}

// Application is the application, for a verb that asks no agent.
func Application(ctx context.Context, cfg config.Config) *app.App {
	o := platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region}
	return app.New(appConfig(cfg), platform.NewInstance(ctx, o))
}

// Metrics collects in a verb's own process, where no agent answers.
func Metrics(ctx context.Context, cfg config.Config) *metrics.Here {
	now := time.Now()
	asked := health.Figures{State: health.Healthy, LastProbe: now, LastState: now} // for the series, not the value
	c := metricsConfig(cfg, metrics.Counter{Name: "health", Read: asked.Samples},
		metrics.Counter{Name: "cron", Read: cron.ZeroSamples})
	o := platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region}
	if aws, err := newAWS(cfg); err == nil {
		o.IMDS = aws
	}
	return metrics.NewHere(ctx, c, app.New(appConfig(cfg), platform.NewInstance(ctx, o)))
}
