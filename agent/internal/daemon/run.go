// Package daemon is the agent: it makes every part, connects them, and runs them.
//
// Contract: nothing is started, no process, no goroutine, before every part is made, so that a start that fails leaves
// nothing behind. Parts meet here and nowhere else: each is handed funcs, and a Config of its own.
//
//	          config.Config    platform.Instance (what this host is)
//	                   \         /
//	                     app.App (the application: environment, address, Host, commands)
//	                        ↑ asked by all below
//	cron file → cron → scheduler ─ claim ─┐                    ┌→ runs on disk
//	                                      ├→ launch → supervisor ┤
//	agent exec → control ─────────────────┘                    └→ run events → cron → log, notify
//	status, env, … → control
//	load balancer → nginx → health ─ drain
//	collectors → metrics → cloudwatch → spool → CloudWatch
package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/platform"
)

// Options are what the command line says of an agent to start.
type Options struct {
	Config     config.Config
	ConfigFile string                        // where Config was read, if it is there
	Reload     func() (config.Config, error) // reads it again
	Socket     string                        // "": as Config says
	App        string                        // the application's directory; "": as Config says
	Stderr     *os.File

	Now func() time.Time // the scheduler's clock; nil: the machine's
}

// Run is the agent, until ctx is done, SIGTERM or Ctrl-C. A second signal ends the program at once.
func Run(ctx context.Context, o Options) error {
	limitRuntime()
	ctx, restore := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, restore) // the default disposition, for the second signal

	log := newLog(o.Stderr)
	cfg, err := o.withDefaults()
	if err != nil {
		return err
	}
	callers, err := o.listen(cfg, log)
	if err != nil {
		return err
	}
	defer callers.Close()
	state, err := lockState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer state.Close()

	services, err := build(ctx, cfg, o.Now, callers, log)
	if err != nil {
		return err
	}
	log.Info("agent starts", "version", buildinfo.Version(), "socket", cfg.Socket)
	context.AfterFunc(ctx, lifecycle.Stopping)
	return lifecycle.Run(ctx, log, services...)
}

// build makes the parts and starts none. Services are started in this order and stopped in reverse.
func build(ctx context.Context, cfg config.Config, now func() time.Time, callers *callers, log *slog.Logger) (
	[]lifecycle.Service, error) {
	aws, err := newAWS(cfg)
	if err != nil {
		return nil, err
	}
	inst := platform.NewInstance(ctx, platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region, IMDS: aws})
	beside := app.New(appConfig(cfg), inst)
	client, start, supervisor, err := newSupervisor(cfg, beside.Env().User, log)
	if err != nil {
		return nil, err
	}
	m := common{cfg, beside, aws, client, start, log}
	launcher := m.launcher()
	var leave *drain.Drain // which holds jobs, and which they ask
	cron, err := m.cron(launcher.Begin, now, func() bool { return leave.Leaving() })
	if err != nil {
		return nil, err
	}
	leave = m.drain(cron)
	check, err := m.health(leave.Refuse)
	if err != nil {
		return nil, err
	}
	metrics, err := m.metrics(check, cron)
	if err != nil {
		return nil, err
	}
	back := &backend{started: time.Now(), app: beside, runs: client, launcher: launcher, cron: cron,
		check: check, drain: leave, metrics: metrics, deployed: metrics.Deployed, callers: callers}
	server := &control.Server{Listener: callers.Listener, Allowed: callers.Allowed, Log: log, Backend: back}
	alive := func(ctx context.Context) error { return api.NewClient(cfg.Socket).Get(ctx, "/v1/status?self", nil) }

	return []lifecycle.Service{
		supervisor, // stopped last: it ends what still runs
		{Name: "identity", Run: func(ctx context.Context) error { inst.Run(ctx, log); return nil }},
		{Name: "run events", Run: cron.FollowRuns},
		{Name: "notices", Run: cron.SendNotices},
		{Name: "metrics", Run: metrics.Publish, Grace: 8 * time.Second},
		{Name: "sampling", Run: metrics.Sample},
		{Name: "health", Run: serveHealth(cfg, check, log)},
		{Name: "termination notices", Run: leave.Run},
		{Name: "scheduler", Run: cron.Run, Grace: 5 * time.Second},
		{Name: "cron file", Run: cron.WatchFile},
		{Name: "control", Run: server.Run},
		{Name: "callers", Run: callers.Follow}, // not after control, which gives the socket up
		{Name: "reload", Run: func(ctx context.Context) error { return onHangup(ctx, back.Reload) }},
		{Name: "ready", Run: func(ctx context.Context) error {
			return announce(ctx, alive, func() { lifecycle.Ready(inst.Facts().EnvironmentName) })
		}},
		{Name: "watchdog", Run: func(ctx context.Context) error { return lifecycle.Watchdog(ctx, log, 0, alive) }},
	}, nil
}

// announce calls ready once the agent answers its own clients.
func announce(ctx context.Context, alive func(context.Context) error, ready func()) error {
	for ctx.Err() == nil {
		if alive(ctx) == nil {
			ready()
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
