package main

import (
	"log/slog"
	"path/filepath"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/runs"
)

func newDrain(cfg config.Config, a *app.App, aws *awsconf.AWS, runs *runs.Client, jobs *cron.Cron, log *slog.Logger) *drain.Drain {
	c := drain.Config{
		Log: log, File: filepath.Join(filepath.Dir(cfg.Socket), "drain"),
		Hold: jobs.Hold, Release: jobs.Release, Runs: runs.List, Connections: a.Connections,
	}
	if a.Instance().AsksMetadata() {
		c.Metadata = aws.Metadata
	}
	return drain.New(c)
}
