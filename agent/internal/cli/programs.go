package cli

import (
	"context"
	"os"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/metrics"
)

// Programs are the parts of the binary that verbs start. All are required.
type Programs struct {
	Run       func(context.Context, RunOptions) error       // the agent
	Supervise func(context.Context, SuperviseOptions) error // the parent of every run
	Check     config.Check                                  // what the agent would refuse of a configuration

	Application func(context.Context, config.Config) *app.App      // the application, without an agent
	Metrics     func(context.Context, config.Config) *metrics.Here // collects without an agent
}

// RunOptions are what the command line says of an agent to start.
type RunOptions struct {
	Config config.Config
	Socket string // "": as Config says
	App    string // the application's directory; "": as Config says
	Stderr *os.File
}

// SuperviseOptions are the rules of the supervisor.
type SuperviseOptions struct {
	Socket      string
	StateDir    string
	AllowUsers  []string
	AllowGroups []string
	AllowRoot   bool
	IdleExit    time.Duration
	Log         *os.File
}
