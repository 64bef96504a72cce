// Agent gives a web application on Elastic Beanstalk what it lost by leaving
// Heroku: scheduled commands and one-off commands with the application's own
// environment, memory metrics that can be alarmed on, and health checks that
// carry the right Host.
//
// This package wires the parts and exits; the parts are under agent/internal: verbs in cli, the agent itself begins at
// cmd_run.go.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	_ "time/tzdata" // a job's zone must be known on a host without zone files

	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/cli"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/supervisor"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, programs))
}

var programs = cli.Programs{
	Run:         func(ctx context.Context, o cli.RunOptions) error { return runAgent(ctx, options(o)) },
	Supervise:   supervise,
	Check:       checkConfig,
	Application: newApplication,
	Metrics:     newHereMetrics,
}

// supervise is the parent of every run.
func supervise(ctx context.Context, o cli.SuperviseOptions) error {
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(16 << 20)
	log := newLog(o.Log)
	err := supervisor.Serve(ctx, supervisor.Config{Socket: o.Socket, StateDir: o.StateDir, IdleExit: o.IdleExit,
		AllowUsers: o.AllowUsers, AllowGroups: o.AllowGroups, AllowRoot: o.AllowRoot,
		Version: buildinfo.Version(), Logger: log, Ready: func() { lifecycle.Ready("ready"); debug.FreeOSMemory() }})
	if errors.Is(err, supervisor.ErrRetired) {
		slog.New(log.Handler()).Info("retired")
		return nil
	}
	return err
}
