package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/platform"
)

// The composition root. Every part is made and connected here; parts meet
// nowhere else.
//
//	           config.Load    platform.Instance (what this host is)
//	                 \          /
//	cron file → cron → scheduler ──────┐                     ┌→ log, notify
//	                                   ├→ launch → supervisor ┤    (ends)
//	agent exec → control ──────────────┘     ↑               └→ runs on disk
//	   ↑                                  appenv (read at each start)
//	status, env, …                           ↓
//	load balancer → nginx → health ──── the application
//	collectors → metrics → cloudwatch → spool → CloudWatch

// options are what the command line says of an agent to start.
type options struct {
	Config config.Config
	Socket string // "": as Config says
	App    string // the application's directory; "": as Config says
	Stderr *os.File
}

func runAgent(ctx context.Context, o options) error {
	thrift()
	// A second signal ends the program at once: after the first, the default
	// disposition is in force again.
	ctx, restore := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, restore)

	log := newLog(o.Stderr)
	cfg, err := settle(o)
	if err != nil {
		return err
	}
	ln, err := listen(cfg.Socket)
	if err != nil {
		return err
	}
	defer ln.Close()
	state, err := holdState(cfg.StateDir)
	if err != nil {
		return err
	}
	defer state.Close()

	aws, err := newAWS(cfg)
	if err != nil {
		return err
	}
	inst := platform.NewInstance(ctx, platformOptions(cfg, aws))
	beside := app.New(appConfig(cfg), inst)
	env := beside.Env()
	runs, local, err := connectSupervisor(cfg, log)
	if err != nil {
		return err
	}
	launcher := newLauncher(cfg, beside, runs, log)
	cron, err := newCron(cfg, beside, aws, runs, launcher, log)
	if err != nil {
		return err
	}
	leave := newDrain(cfg, beside, aws, runs, cron, log)
	check, err := newHealth(cfg, beside, leave.Refuse, log)
	if err != nil {
		return err
	}
	metrics, err := newMetrics(cfg, beside, aws, check, cron, runs, log)
	if err != nil {
		return err
	}
	back := &backend{started: time.Now(), cfg: cfg, app: beside, inst: inst, env: env, launcher: launcher, cron: cron, check: check, drain: leave, metrics: metrics, deployed: metrics.Deployed,
		runs: spooled{runs}}
	server := &control.Server{Listener: ln, Allow: cfg.Exec.Allow, Log: log, Backend: back}
	alive := func(ctx context.Context) error { return api.NewClient(cfg.Socket).Get(ctx, "/v1/status?self", nil) }

	log.Info("agent starts", "version", buildinfo.Version(), "socket", cfg.Socket)
	services := []lifecycle.Service{
		local, // stopped last: it ends what still runs
		{Name: "identity", Run: func(ctx context.Context) error { inst.Run(ctx, log); return nil }},
		{Name: "run events", Run: cron.FollowRuns},
		{Name: "notices", Run: cron.SendNotices},
		{Name: "metrics", Run: metrics.Publish, Grace: 8 * time.Second},
		{Name: "sampling", Run: metrics.Sample},
		{Name: "health", Run: func(ctx context.Context) error { return check.Serve(ctx, cfg.Health.Listen) }},
		{Name: "termination notices", Run: leave.Run},
		{Name: "scheduler", Run: cron.Run, Grace: 5 * time.Second},
		{Name: "cron file", Run: cron.WatchFile},
		{Name: "control", Run: server.Run},
		{Name: "reload", Run: func(ctx context.Context) error { return onHangup(ctx, back.Reload) }},
		{Name: "watchdog", Run: func(ctx context.Context) error { return lifecycle.Watchdog(ctx, log, alive) }},
	}
	lifecycle.Ready(inst.Facts().EnvironmentName)
	context.AfterFunc(ctx, lifecycle.Stopping)
	return lifecycle.Run(ctx, log, services...)
}

// thrift keeps the agent small beside the application: one processor (fewer
// threads and caches), and a memory limit that only a fault would reach.
// Measured: 1 MB less anonymous memory; a tighter limit or GOGC only burns CPU.
func thrift() {
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(32 << 20)
}

// newLog writes for journald, which stamps lines itself, without a time; for a
// person with one.
func newLog(w *os.File) *slog.Logger {
	o := &slog.HandlerOptions{}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// settle fills what flags and this user's place in the system decide.
func settle(o options) (config.Config, error) {
	cfg := o.Config
	if o.App != "" {
		dir, err := filepath.Abs(o.App)
		if err != nil {
			return cfg, err
		}
		if info, err := os.Stat(dir); err != nil {
			return cfg, fmt.Errorf("--app: %w", err)
		} else if !info.IsDir() {
			return cfg, fmt.Errorf("--app: %q is not a directory", dir)
		}
		cfg.App.Dir = dir
	}
	if o.Socket != "" {
		cfg.Socket = o.Socket
	}
	if cfg.Socket == "" {
		cfg.Socket = api.DefaultSocket()
	}
	if cfg.StateDir == "" {
		cfg.StateDir = api.DefaultStateDir()
	}
	return cfg, os.MkdirAll(cfg.StateDir, 0o700)
}

// listen takes the socket. Everybody may connect: the caller's uid, as the
// kernel tells it, and the route's rule decide. In a place of the user's own
// the directory is closed to others as well.
func listen(path string) (*fdconn.Listener, error) {
	mode := os.FileMode(0o755)
	if os.Geteuid() != 0 {
		mode = 0o700
	}
	if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
		return nil, err
	}
	ln, err := fdconn.Listen(path, 0o666)
	if used, ok := errors.AsType[*fdconn.InUse](err); ok {
		return nil, fmt.Errorf("an agent is running already: process %d holds %s", used.PID, path)
	}
	return ln, err
}

// holdState keeps a second agent, on another socket, from what this one keeps: it
// would send the same figures again and start every job again. The kernel gives
// the directory free with its holder; nothing is left in it.
func holdState(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, &api.Error{Message: "another agent is running with its state in " + dir, Hint: "give this one a state_dir of its own (--config)"}
	}
	return f, nil // where the file system knows no locks, without one
}

// onHangup calls reload at each SIGHUP, until ctx is done.
func onHangup(ctx context.Context, reload func(context.Context) error) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			if err := reload(ctx); err != nil {
				return err
			}
		}
	}
}
