package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/collectors"
)

func newDrain(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, runs *supervisor.Client, cron *cronParts, log *slog.Logger) *drain.Drain {
	return drain.New(drain.Config{
		Log: log, File: filepath.Join(filepath.Dir(cfg.Socket), "drain"), Endpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
		Hold: cron.hold, Release: cron.release,
		Live:        func(ctx context.Context) (names, terminals []string, err error) { return liveRuns(ctx, runs) },
		Connections: func(ctx context.Context) int { return connections(ctx, cfg, inst, env) },
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

// connections counts the connections that the application has accepted on its port
// or socket; -1 where the kernel does not tell.
func connections(ctx context.Context, cfg config.Config, inst *platform.Instance, env *appenv.Resolver) int {
	where := collectors.ListenConfig{Connections: time.Nanosecond}
	from, _ := origin(ctx, cfg, inst, env)
	target, err := endpoint.Parse(from + "/")
	switch {
	case err != nil:
		return -1
	case target.Network == "unix":
		where.UnixPath = target.Address
	default:
		where.Port = target.Port()
	}
	listen := collectors.NewListen(where)
	defer listen.Close()
	samples, err := listen.Collect(ctx)
	for _, s := range samples {
		if s.Name == "listen_connections" {
			return int(s.Value)
		}
	}
	if errors.Is(err, collectors.ErrNoData) {
		return 0 // nobody listens
	}
	return -1
}
