package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/supervisor"
)

func newDrain(cfg config.Config, a *app.App, aws *awsconf.AWS, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *drain.Drain {
	c := drain.Config{
		Log: log, File: filepath.Join(filepath.Dir(cfg.Socket), "drain"), Hold: cron.hold, Release: cron.release,
		Live:        func(ctx context.Context) (names, terminals []string, err error) { return liveRuns(ctx, runs) },
		Connections: a.Connections,
	}
	if a.Instance().AsksMetadata() {
		c.Metadata = aws.Metadata
	}
	return drain.New(c)
}

func liveRuns(ctx context.Context, runs *supervisor.Client) (names, terminals []string, err error) {
	live, err := runs.List(ctx, supervisor.Filter{Live: true})
	for _, r := range live {
		name := strings.TrimSpace(fmt.Sprintf("%s %s (%s)", r.Kind, r.Name, r.ID))
		if r.IO == supervisor.IOTerminal {
			terminals = append(terminals, name)
		} else {
			names = append(names, name)
		}
	}
	return names, terminals, err
}
