package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
)

func newDrain(cfg config.Config, a *app.App, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *drain.Drain {
	return drain.New(drain.Config{
		Log: log, File: filepath.Join(filepath.Dir(cfg.Socket), "drain"), Endpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		Hold: cron.hold, Release: cron.release,
		Live:        func(ctx context.Context) (names, terminals []string, err error) { return liveRuns(ctx, runs) },
		Connections: a.Connections,
	})
}

// watchNotices drains at termination notices, where there are any.
func watchNotices(d *drain.Drain, inst *platform.Instance) lifecycle.Service {
	return lifecycle.Service{Name: "termination notices", Run: func(ctx context.Context) error {
		if !inst.AsksMetadata() {
			return nil
		}
		return d.Run(ctx)
	}}
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
