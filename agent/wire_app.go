package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
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

// Where agent-runs.service serves, and keeps its runs.
const (
	systemSupervisor = "/run/agent-runs/supervisor.sock"
	systemState      = "/var/lib/agent"
)

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// connectSupervisor finds the parent of all runs: agent-runs.service where
// systemd started us, or where it keeps the runs that we would keep, as when
// somebody starts the agent by hand on an instance; else one of our own, which
// ends with an orderly stop of the agent and survives any other end of it. Its
// socket is named after the agent's: two agents in one directory must not end
// each other's runs.
func connectSupervisor(cfg config.Config, log *slog.Logger) (*supervisor.Client, lifecycle.Service, error) {
	system := &supervisor.Client{Socket: systemSupervisor, Patience: 10 * time.Second}
	if os.Getenv("NOTIFY_SOCKET") != "" && isDir(filepath.Dir(systemSupervisor)) || cfg.StateDir == systemState && answers(systemSupervisor) {
		return system, lifecycle.Service{Name: "supervisor", Run: func(context.Context) error { return nil }}, nil
	}
	c := &supervisor.Client{Socket: strings.TrimSuffix(cfg.Socket, ".sock") + "-supervisor.sock", Patience: 5 * time.Second}
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
		if err := c.Shutdown(limit, 5*time.Second); err != nil {
			return err
		}
		return gone(limit, c.Socket)
	}
	return c, lifecycle.Service{Name: "supervisor", Run: end, Grace: 8 * time.Second}, nil
}

// gone waits until a file is not there any more. A supervisor answers that its
// runs have ended before it ends itself; the next agent's, started meanwhile,
// would find the socket held and give up.
func gone(ctx context.Context, path string) error {
	for {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still there: %w", path, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func newLauncher(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, runs *supervisor.Client, who *claims, log *slog.Logger) *launch.Launcher {
	exe, _ := os.Executable()
	return &launch.Launcher{Profile: env.Profile, Runs: runs, Version: inst.VersionLabel, Claims: who, Audit: cfg.Exec.Audit, Log: log,
		Idle: cfg.Exec.Idle, Session: cfg.Exec.Session, NoNewPrivs: cfg.Exec.NoNewPrivileges,
		Poster: launch.Poster{Exe: exe, Env: func(ctx context.Context) []string {
			var headers []string
			for k, v := range cfg.Health.Headers {
				headers = append(headers, k+": "+v)
			}
			host, _ := healthHost(ctx, cfg, env)
			return []string{postTarget + "=" + strings.TrimSuffix(origin(cfg, inst, env), ":"), postHost + "=" + host, postHeaders + "=" + strings.Join(headers, "\n")}
		}}}
}

func newEnds(cfg config.Config, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *launch.Ends {
	return &launch.Ends{Events: runs.Events, File: filepath.Join(cfg.StateDir, "told"), Log: log,
		Last:  func(ctx context.Context) (uint64, error) { i, err := runs.Info(ctx); return i.LastSeq, err },
		Began: cron.began,
		Tell:  func(r supervisor.Run) { launch.Ended(log, r); cron.ended(r) }}
}
