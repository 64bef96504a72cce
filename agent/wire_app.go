package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/cli"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
)

// Wiring: what one package says in the words of another. No package takes
// config.Config; these functions translate it.

func platformOptions(cfg config.Config, imds platform.IMDS) platform.Options {
	return platform.Options{AppDir: cfg.App.Dir, Region: cfg.AWS.Region, IMDS: imds}
}

func appConfig(cfg config.Config) app.Config {
	return app.Config{Dir: cfg.App.Dir, User: cfg.App.User, EnvFiles: cfg.App.EnvFiles,
		Target: cfg.Health.Target, Path: cfg.Health.Path, Host: cfg.Health.Host, Headers: cfg.Health.Headers}
}

// newApplication is the application of this host, without an agent.
func newApplication(ctx context.Context, cfg config.Config) *app.App {
	return app.New(appConfig(cfg), platform.NewInstance(ctx, platformOptions(cfg, nil)))
}

// checkConfig reports what the features would refuse.
func checkConfig(cfg config.Config, fault func(key, format string, a ...any)) {
	healthFaults(cfg, fault)
	metricsConfig(cfg).Check(fault)
}

// newAWS says as whom and where the agent itself speaks to AWS.
func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region, CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

func newLauncher(cfg config.Config, a *app.App, runs *supervisor.Client, who *claims, log *slog.Logger) *launch.Launcher {
	exe, _ := os.Executable()
	return &launch.Launcher{
		Profile: a.Env().Profile, Runs: runs, Version: a.Instance().VersionLabel, Host: a.Name,
		Claims: who, Audit: cfg.Exec.Audit, Log: log,
		Idle: cfg.Exec.Idle, Session: cfg.Exec.Session, NoNewPrivs: cfg.Exec.NoNewPrivileges,
		Poster: launch.Poster{Exe: exe, Env: func(ctx context.Context) []string {
			host, _ := a.Host(ctx)
			from, _ := a.Origin(ctx)
			return []string{cli.PostTarget + "=" + strings.TrimSuffix(from, ":"), cli.PostHost + "=" + host,
				cli.PostHeaders + "=" + strings.Join(a.Headers(), "\n")}
		}}}
}

// newEnds is to be called before anything can be run.
func newEnds(cfg config.Config, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *launch.Ends {
	return &launch.Ends{Events: runs.Events, File: filepath.Join(cfg.StateDir, "told"), Fresh: noRuns(cfg, runs), Log: log,
		Last:  func(ctx context.Context) (uint64, error) { i, err := runs.Info(ctx); return i.LastSeq, err },
		Began: cron.began,
		Tell:  func(r supervisor.Run) { launch.Ended(log, r); cron.ended(r) }}
}

// noRuns reports whether there is nothing where the supervisor keeps its runs.
func noRuns(cfg config.Config, runs *supervisor.Client) bool {
	dir := cfg.StateDir
	if runs.Socket == systemSupervisor {
		dir = systemState
	}
	found, err := os.ReadDir(filepath.Join(dir, "runs"))
	return len(found) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}
