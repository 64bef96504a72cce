// Package control is the agent's local API: who may ask what over its socket.
//
// Contract: plain HTTP over one unix socket. The caller is known from the
// kernel, never from the request; each route stands beside the permission it
// needs; both ends use the types of this file. The client ignores fields it
// does not know, the server refuses them: an older server must not quietly do
// half of what a newer client asked.
//
// Reason: everything a person can type at a box goes through here, so this is
// where root's power is handed out.
package control

import (
	"strings"
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
	User    string        `json:"user,omitempty"` // only root may choose another than the application's
	Dir     string        `json:"dir,omitempty"`  // relative to the application's directory
	Env     []string      `json:"env,omitempty"`  // NAME=value, laid over the application's
	Timeout time.Duration `json:"timeout,omitempty"`
	Grace   time.Duration `json:"grace,omitempty"`
	Idle    time.Duration `json:"idle,omitempty"`   // of a terminal; 0 = the agent's own
	Memory  int64         `json:"memory,omitempty"` // bytes
	Lock    string        `json:"lock,omitempty"`
	Size    session.Size  `json:"size,omitzero"`
}

// StopRequest ends a run: TERM, grace, KILL.
type StopRequest struct {
	Grace time.Duration `json:"grace,omitempty"` // 0 = the run's own
}

// State says how a line of the status stands.
type State string

const (
	Good State = "ok"
	Note State = "note" // worth knowing, nothing to do
	Warn State = "warn" // works, but less than it could
	Bad  State = "bad"  // does not work
)

// Line is one line of the status screen: what, how it stands, what to do.
type Line struct {
	What  string `json:"what"` // agent, application, environment, cron, metrics, health, runs, …
	State State  `json:"state"`
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// Status is the answer to `agent status`.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	Lines   []Line    `json:"lines"`
}

// CronJob is one row of `agent cron list`.
type CronJob struct {
	Name     string     `json:"name"`
	Schedule string     `json:"schedule"`
	Timezone string     `json:"timezone"`
	Runs     string     `json:"runs"` // the program or URL path, never its arguments
	On       string     `json:"on"`   // one or all
	Next     *time.Time `json:"next,omitempty"`
	Note     string     `json:"note,omitempty"` // off here, paused, held, running since …
	Last     *time.Time `json:"last,omitempty"` // the slot that last ran
	Result   string     `json:"result,omitempty"`
	Host     string     `json:"host,omitempty"` // who ran it, where a claim store knows
	Failures int        `json:"failures,omitempty"`
	Skipped  uint64     `json:"skipped,omitempty"`       // was due while still running
	Since    *time.Time `json:"skipped_since,omitempty"` // the first of those that go on; none: a run has started since
	Missed   uint64     `json:"missed,omitempty"`        // was due while nobody could start it
	MissedAt *time.Time `json:"last_missed,omitempty"`
}

// CronTable is the answer to `agent cron list`.
type CronTable struct {
	File     string     `json:"file"`
	State    string     `json:"state"` // loaded, absent, or faulty
	Faults   []string   `json:"faults,omitempty"`
	Warnings []string   `json:"warnings,omitempty"`
	Held     *time.Time `json:"held_until,omitempty"` // no job starts before
	Jobs     []CronJob  `json:"jobs"`
}

// MaxNext is how many occurrences can be asked for at once.
const MaxNext = 100_000

// Occurrence is one row of `agent cron next`.
type Occurrence struct {
	Job  string `json:"job"`
	At   string `json:"at"`   // RFC 3339 with the job's zone's offset
	Note string `json:"note"` // daylight saving; else empty
}

// CronCost is the answer to `agent cron list --cost`: what claiming slots costs
// in a month, for jobs that one instance of several runs.
type CronCost struct {
	Instances int           `json:"instances"`
	Jobs      []CronJobCost `json:"jobs"`
	Puts      int           `json:"puts"`
	Gets      int           `json:"gets"`
	Dollars   float64       `json:"dollars"`
}

// CronJobCost is one job's part of it.
type CronJobCost struct {
	Name    string  `json:"name"`
	Slots   int     `json:"slots"`
	Puts    int     `json:"puts"`
	Gets    int     `json:"gets"`
	Dollars float64 `json:"dollars"`
}

// Variable is one variable of the application's environment. Value is left out
// unless it was asked for.
type Variable struct {
	Name   string  `json:"name"`
	Value  *string `json:"value,omitempty"`
	Length int     `json:"length"` // bytes
	Source string  `json:"source"`
}

// Environment is the answer to `agent env`.
type Environment struct {
	Variables []Variable `json:"variables"`
	Warnings  []string   `json:"warnings,omitempty"` // never with a value
}

// Difference is one row of `agent env --diff`.
type Difference struct {
	Name string  `json:"name"`
	Kind string  `json:"kind"` // changed, only in the web process, only here
	Web  *string `json:"web,omitempty"`
	Here *string `json:"here,omitempty"`
}

// EnvironmentDiff is the answer to `agent env --diff`.
type EnvironmentDiff struct {
	PIDs        []int        `json:"pids"` // the web processes compared with
	Same        int          `json:"same"`
	Differences []Difference `json:"differences"`
	Unread      []string     `json:"unread,omitempty"` // web processes that could not be, with the reason
}

// Error is what a refused or failed request answers; session.Refusal is the same
// shape, as the supervisor writes it.
type Error struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do about it
	Exit    int    `json:"code,omitempty"` // what an exec exits with: 125, 126 or 127
	Status  int    `json:"-"`              // HTTP
}

func (e *Error) Error() string   { return e.Message }
func (e *Error) Hints() []string { return splitHints(e.Hint) }

func splitHints(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
