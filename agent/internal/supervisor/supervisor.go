// Package supervisor is the parent of every run: a second, tiny process that outlives the agent's restarts.
//
// Contract. Serve listens on a socket that only the agent's own user may use, starts what it is asked to
// within its own rules, owns terminals, spools and control groups, and writes how each run ended before it
// reports it. It reads no configuration and no environment file and speaks to no network. A client whose
// connection the agent handed over is answered on that connection; package session says how.
//
// The agent may end in any way and come back: runs go on. If this process is killed, systemd ends the
// processes of its runs, and the next supervisor records each run as lost, by name.
//
// On disk, below Config.StateDir: runs/ID/meta.json (written at the start), output (a spool, if any) and
// status.json (written at the end, whole: a run that has one needs nothing else). One that is torn counts as
// not written; see writeRecord.
package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// Config says where a supervisor serves and what it allows.
type Config struct {
	Socket   string       // required: made with mode 0600; its directory must exist
	StateDir string       // required: made with mode 0700
	Version  string       // required: of this binary
	Logger   *slog.Logger `json:"-"` // required

	Unit string // the systemd unit that delegates its control group to us; empty: "agent-runs.service"

	// AllowUsers are the names or numbers of users that runs may have, "*" for all but root. It only
	// matters when this process is root; otherwise runs have its own user. Names are looked up at each
	// start, since the application's user may be made later than this process.
	AllowUsers []string
	AllowRoot  bool // runs as root, too

	// AllowGroups are groups that runs may have beside their user's own.
	AllowGroups []string

	Keep Keep // zero values: see there

	IdleExit time.Duration // end by itself after so long without agent and runs; 0: never
	Ready    func()        `json:"-"` // called once, when the socket answers; may be nil

	// Ending is called while runs are being ended, again and again: whoever waits for this process has to give it so
	// long from now. May be nil.
	Ending func(time.Duration) `json:"-"`

	// Watch runs beside the server, until it has ended, and asks alive from time to time; may be nil. When alive fails
	// or hangs, this process is of no more use.
	Watch func(ctx context.Context, alive func(context.Context) error) `json:"-"`
}

// stopGrace is what runs get between TERM and KILL unless they say otherwise, DESIGN §5.
const stopGrace = 5 * time.Second

// shutdownGrace is the most that a run gets when the supervisor itself ends. The unit's TimeoutStopSec= is shorter, so
// that a supervisor that hangs does not hold up a reboot. A live one asks systemd for stopStep more, again and again:
// else systemd would kill it before it has written how runs ended.
const shutdownGrace = runs.MaxGrace

const stopStep = 30 * time.Second

// ErrRetired is returned by Serve when it ended for a newer supervisor to take over.
var ErrRetired = errors.New("retired: a newer supervisor takes over")
