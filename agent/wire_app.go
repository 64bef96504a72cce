package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
)

// Wiring: what one package says in the words of another. No package takes
// config.Config; these functions translate it.

func platformOptions(cfg config.Config) platform.Options {
	return platform.Options{
		AppDir: cfg.App.Dir, AppUser: cfg.App.User, Region: cfg.AWS.Region,
		IMDSEndpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		NoIMDS:       strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true"),
	}
}

func envConfig(cfg config.Config, inst *platform.Instance) appenv.Config {
	f, o := inst.Facts(), platformOptions(cfg)
	c := appenv.Config{
		AppDir: f.AppDir, User: cfg.App.User, EnvFiles: cfg.App.EnvFiles, // who it is when nobody says: appenv finds out at each start
		Beanstalk: f.Beanstalk, Docker: f.Docker, Systemd: appenv.SystemdVersion(f.Systemd),
		WebPIDs: func(ctx context.Context) ([]int, error) { return platform.WebPIDs(ctx, o, inst.Facts().WebUnit) },
	}
	if f.Beanstalk {
		c.GetConfig = func(ctx context.Context) ([]byte, error) { return platform.GetConfig(ctx, o, "environment") }
	}
	return c
}

// newAWS says as whom and where the agent itself speaks to AWS.
func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region, CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

// systemSupervisor is where agent-runs.service serves.
const systemSupervisor = "/run/agent-runs/supervisor.sock"

// connectSupervisor finds the parent of all runs: agent-runs.service where
// systemd started us, else one of our own beside the socket, which ends with
// an orderly stop of the agent and survives any other end of it.
func connectSupervisor(cfg config.Config, log *slog.Logger) (*supervisor.Client, lifecycle.Service, error) {
	if os.Getenv("NOTIFY_SOCKET") != "" && isDir(filepath.Dir(systemSupervisor)) {
		c := &supervisor.Client{Socket: systemSupervisor, Patience: 10 * time.Second}
		return c, lifecycle.Service{Name: "supervisor", Run: func(context.Context) error { return nil }}, nil
	}
	c := &supervisor.Client{Socket: filepath.Join(filepath.Dir(cfg.Socket), "supervisor.sock"), Patience: 5 * time.Second}
	exe, err := os.Executable()
	if err != nil {
		return nil, lifecycle.Service{}, err
	}
	args := []string{"--socket", c.Socket, "--state", cfg.StateDir, "--idle-exit", "60s", "--allow-user", "*", "--allow-root"}
	if err := launch.Spawn(exe, args); err != nil {
		return nil, lifecycle.Service{}, err
	}
	end := func(ctx context.Context) error {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 7*time.Second)
		defer cancel()
		return c.Shutdown(limit, 5*time.Second)
	}
	return c, lifecycle.Service{Name: "supervisor", Run: end, Grace: 8 * time.Second}, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func newLauncher(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, runs *supervisor.Client, who *claims, log *slog.Logger) *launch.Launcher {
	exe, _ := os.Executable()
	return &launch.Launcher{Profile: env.Profile, Runs: runs, Version: inst.VersionLabel, Claims: who, Audit: cfg.Exec.Audit, Log: log,
		Poster: launch.Poster{Exe: exe, Env: func(ctx context.Context) []string {
			var headers []string
			for k, v := range cfg.Health.Headers {
				headers = append(headers, k+": "+v)
			}
			return []string{postTarget + "=" + origin(cfg, inst, env), postHost + "=" + healthHost(ctx, cfg, env), postHeaders + "=" + strings.Join(headers, "\n")}
		}}}
}

func newHealth(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, log *slog.Logger) (*health.Checker, error) {
	expect, err := health.ParseExpect(cfg.Health.Expect)
	if err != nil {
		return nil, fmt.Errorf("health.expect: %w", err)
	}
	return health.New(health.Config{
		Target: cfg.Health.Target, Log: log,
		FindTarget: func(context.Context) (string, error) { return origin(cfg, inst, env) + cfg.Health.Path, nil },
		DrainFile:  filepath.Join(filepath.Dir(cfg.Socket), "drain"),
		NginxFile:  filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Host:       func(ctx context.Context) string { return healthHost(ctx, cfg, env) },
		Headers:    cfg.Health.Headers, Method: cfg.Health.Method, Expect: expect, Path: cfg.Health.Path,
		Timeout: cfg.Health.Timeout, Grace: cfg.Health.Grace, Failures: cfg.Health.Failures,
	})
}

// origin is where the application itself listens, behind nginx: where health
// checks ask, by configuration; else the platform's port; else PORT of the
// application's environment; else 8000, the Python platform's.
func origin(cfg config.Config, inst *platform.Instance, env *appenv.Resolver) string {
	if t := cfg.Health.Target; t != "" {
		if i := strings.Index(t, "://"); i > 0 {
			if j := strings.IndexByte(t[i+3:], '/'); j >= 0 {
				return t[:i+3+j]
			}
			return t
		}
		if i := strings.LastIndex(t, ":/"); i > 0 { // unix:/socket:/path
			return t[:i+1]
		}
	}
	return "http://127.0.0.1:" + strconv.Itoa(appPort(inst, env))
}

func appPort(inst *platform.Instance, env *appenv.Resolver) int {
	if p := inst.Facts().AppPort; p != 0 {
		return p
	}
	if e, err := env.Resolve(context.Background()); err == nil {
		if v, ok := e.Lookup("PORT"); ok {
			if p, err := strconv.Atoi(v); err == nil && p > 0 && p < 1<<16 {
				return p
			}
		}
	}
	return 8000
}

// healthHost is the Host that the application accepts: the configured one,
// with ${NAME} from the application's environment. A variable such as
// ALLOWED_HOSTS holds a list; its first entry that is one host counts.
func healthHost(ctx context.Context, cfg config.Config, env *appenv.Resolver) string {
	if !strings.Contains(cfg.Health.Host, "${") {
		return cfg.Health.Host
	}
	e, err := env.Resolve(ctx)
	if err != nil {
		return ""
	}
	host := os.Expand(cfg.Health.Host, func(name string) string { v, _ := e.Lookup(name); return v })
	for _, h := range strings.FieldsFunc(host, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !strings.HasPrefix(h, ".") && !strings.Contains(h, "*") && health.CheckHost(h) == nil {
			return h
		}
	}
	return ""
}

// newTermination drains the instance when AWS says that it takes it away, and
// starts no more jobs: another instance runs them.
func newTermination(inst *platform.Instance, check *health.Checker, cron *cronParts, log *slog.Logger) lifecycle.Service {
	w := &health.TerminationWatch{Log: log, Endpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), OnNotice: func(t health.Termination) {
		check.Drain(t.By, t.Reason)
		cron.sched.Hold(untilItIsGone)
	}}
	return lifecycle.Service{Name: "termination notices", Run: func(ctx context.Context) error {
		if !inst.Facts().EC2 && w.Endpoint == "" {
			return nil
		}
		return w.Run(ctx)
	}}
}

func newEnds(cfg config.Config, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *launch.Ends {
	return &launch.Ends{Events: runs.Events, File: filepath.Join(cfg.StateDir, "told"), Log: log,
		Last:  func(ctx context.Context) (uint64, error) { i, err := runs.Info(ctx); return i.LastSeq, err },
		Began: cron.began,
		Tell:  func(r supervisor.Run) { launch.Ended(log, r); cron.ended(r) }}
}

// privateIP is the address that a load balancer uses: that of the interface
// that leads out. Nothing is sent.
func privateIP() string {
	c, err := net.Dial("udp", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
