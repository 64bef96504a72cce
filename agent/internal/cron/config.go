package cron

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
)

// Runs is the supervisor, as far as cron needs it.
type Runs interface {
	List(context.Context, runs.Filter) ([]runs.Run, error)
	Get(ctx context.Context, id string) (runs.Run, error)
	Wait(ctx context.Context, id string) (runs.Run, error)
	Interrupt(ctx context.Context, id, by string) (runs.Run, error)
	RenewLease(ctx context.Context, id string, length time.Duration, from runs.BootTime) error
	Info(context.Context) (runs.Info, error)
	Events(ctx context.Context, after uint64) iter.Seq2[runs.Event, error]
}

// Begin completes a request by the application's environment and starts it. ended waits for the run's end, and is
// given with runs.ErrExists, too. It is package launch's.
type Begin func(context.Context, appenv.ProfileOptions, runs.Request) (
	run runs.Run, ended func() (runs.Run, error), err error)

// Config is what a Cron is made of.
type Config struct {
	// Required.

	App   *app.App
	AWS   *awsconf.AWS // for claims
	Runs  Runs
	Begin Begin
	Log   *slog.Logger

	Files    []string // relative to the application's directory; the first that exists is the cron file
	Claims   string   // auto, off or s3://BUCKET/PREFIX: see CheckClaims
	StateDir string
	HoldFile string // below /run: a hold outlives the agent and not the host

	// Optional.

	Location *time.Location  // of jobs that name none; nil: UTC
	Limit    int             // jobs at once on this host; 0: by processors
	NoRuns   bool            // the supervisor has never run anything
	Notify   []notify.Target // targets of notices
	Leaving  func() bool     // this machine shuts down or is terminated; nil: never
	Group    string          // of cron files that name none; "": each environment for itself

	// ShareOutput puts the end of a failed run's output into its register, where whoever reads the bucket sees it.
	ShareOutput bool

	Cooldown time.Duration    // between notices of one job's failures
	Now      func() time.Time // the wall clock; nil: time.Now
}
