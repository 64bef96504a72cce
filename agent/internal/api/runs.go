package api

import (
	"time"

	"beanstalk-agent/agent/internal/session"
)

// Modes of an ExecRequest.
const (
	Pipes    = "pipes"    // the client's own stdin, stdout and stderr, passed as descriptors
	Terminal = "terminal" // a terminal that outlives the connection
	Detached = "detached" // output to a spool file
)

// ExecRequest asks for a command to be run as the application would run it.
type ExecRequest struct {
	Args []string `json:"args"`
	Mode string   `json:"mode"`

	// All of these are optional.
	User    string        `json:"user,omitempty"`    // only root may choose another than the application's
	AppEnv  bool          `json:"app_env,omitempty"` // and all of the application's environment for that user
	Dir     string        `json:"dir,omitempty"`     // relative to the application's directory
	Env     []string      `json:"env,omitempty"`     // NAME=value, laid over the application's
	Timeout time.Duration `json:"timeout,omitempty"`
	Grace   time.Duration `json:"grace,omitempty"`
	Idle    time.Duration `json:"idle,omitempty"`   // of a terminal; 0 = the agent's own
	Memory  int64         `json:"memory,omitempty"` // bytes
	Lock    string        `json:"lock,omitempty"`
	Size    session.Size  `json:"size,omitzero"`
	Share   bool          `json:"share,omitempty"` // others than the caller and root may attach to the terminal
}

// StopRequest ends a run: TERM, grace, KILL.
type StopRequest struct {
	Grace time.Duration `json:"grace,omitempty"` // 0 = the run's own
}

// MaxRuns is how many runs can be listed at once, the newest.
const MaxRuns = 1000
