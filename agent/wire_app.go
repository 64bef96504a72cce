package main

import (
	"context"
	"log/slog"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
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
	cronFaults(cfg, fault)
}

// newAWS says as whom and where the agent itself speaks to AWS.
func newAWS(cfg config.Config) (*awsconf.AWS, error) {
	return awsconf.New(awsconf.Config{Region: cfg.AWS.Region, CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
}

func newLauncher(cfg config.Config, a *app.App, client *runs.Client, log *slog.Logger) *launch.Launcher {
	return &launch.Launcher{
		Profile: a.Env().Profile, Runs: client, Version: a.Instance().VersionLabel, Host: a.Name, Audit: cfg.Exec.Audit, Log: log,
		Idle: cfg.Exec.Idle, Session: cfg.Exec.Session, NoNewPrivs: cfg.Exec.NoNewPrivileges}
}
