// Agent gives a web application on Elastic Beanstalk what it lost by leaving Heroku: scheduled commands and one-off
// commands with the application's own environment, memory metrics that can be alarmed on, and health checks that carry
// the right Host.
//
// This package chooses: a verb (package cli), the agent (package daemon), or the supervisor of runs.
package main

import (
	"context"
	"os"
	"time"
	_ "time/tzdata" // a job's zone must be known on a host without zone files

	"beanstalk-agent/agent/internal/cli"
	"beanstalk-agent/agent/internal/daemon"
	"beanstalk-agent/agent/internal/supervisor"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, programs(nil)))
}

// programs are what verbs start, the scheduler by this clock; nil: the machine's.
func programs(clock func() time.Time) cli.Programs {
	return cli.Programs{
		Run: func(ctx context.Context, o cli.RunOptions) error {
			return daemon.Run(ctx, daemon.Options{Config: o.Config, ConfigFile: o.ConfigFile, Reload: o.Reload,
				Socket: o.Socket, App: o.App, Stderr: o.Stderr, Now: clock})
		},
		Supervise: func(ctx context.Context, o cli.SuperviseOptions) error {
			return daemon.Supervise(ctx, supervisor.Config{Socket: o.Socket, StateDir: o.StateDir, IdleExit: o.IdleExit,
				AllowUsers: o.AllowUsers, AllowGroups: o.AllowGroups, AllowRoot: o.AllowRoot}, o.Log)
		},
		Check:       daemon.Check,
		Direct:      supervisor.Direct,
		Application: daemon.Application,
		Metrics:     daemon.Metrics,
	}
}
