// Package runs is a run as everybody but its parent sees it: its record, its output, its outcome in words,
// and the client of the supervisor, which is that parent.
package runs

import (
	"fmt"
	"time"

	"beanstalk-agent/agent/internal/session"
)

// API is the version in the path of every request. Fields are only ever added. The client ignores those it does
// not know. The server refuses a request that has one: it would not keep a limit that it does not know. Facts
// that an older supervisor may ignore go into Request.Meta.
const API = 1

// How a run's standard streams are connected.
const (
	IOPipes    = "pipes"    // the three descriptors handed over
	IOTerminal = "terminal" // a pseudo terminal of the supervisor's
	IOSpool    = "spool"    // output into a file of the supervisor's, input from /dev/null
)

// Caller is the process that asked, as the kernel names it to the agent.
type Caller struct {
	UID   uint32 `json:"uid"`
	PID   int    `json:"pid,omitzero"`
	Login string `json:"login,omitzero"` // name, where known
}

// Request asks for one run. Everything in it was decided by the agent; the supervisor adds nothing, and
// refuses what its own rules do not allow.
type Request struct {
	Args []string `json:"args"` // required: argv
	Env  []string `json:"env"`  // the whole environment; never written to disk
	IO   string   `json:"io"`   // required: IOPipes, IOTerminal or IOSpool

	ID     string   `json:"id,omitzero"`   // [a-z0-9._-], at most 64; empty: the supervisor chooses
	Kind   string   `json:"kind,omitzero"` // "exec" (default) or "cron"
	Name   string   `json:"name,omitzero"` // job name, or program name (default)
	Dir    string   `json:"dir,omitzero"`
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitzero"` // supplementary; must be the user's own. Empty: looked up
	User   string   `json:"user,omitzero"`   // name of UID, for show
	Umask  int      `json:"umask,omitzero"`  // 0: 022; command.NoUmask: 0

	Size        session.Size  `json:"size,omitzero"` // of the terminal at the first byte
	Timeout     time.Duration `json:"timeout_ns,omitzero"`
	Grace       time.Duration `json:"grace_ns,omitzero"`   // between TERM and KILL; 0: 5 s
	Idle        time.Duration `json:"idle_ns,omitzero"`    // a terminal without input or output for so long is ended
	MemoryMax   int64         `json:"memory_max,omitzero"` // bytes
	MaxOutput   int64         `json:"max_output,omitzero"` // bytes kept of a spool; 0: 16 MiB
	OOMScoreAdj int           `json:"oom_score_adj,omitzero"`
	NoNewPrivs  bool          `json:"no_new_privs,omitzero"`
	Lock        string        `json:"lock,omitzero"`         // held by one run at a time
	LockWait    time.Duration `json:"lock_wait_ns,omitzero"` // how long to wait for it; 0: refuse at once

	// Lease, unless 0, is after how long the run is ended when no one renews it: TERM, Grace, KILL, by "lease". It is
	// at most MaxLease and counts from LeaseFrom, by default when the client sends the request. An older supervisor
	// refuses it: ErrNoLease.
	Lease     time.Duration `json:"lease_ns,omitzero"`
	LeaseFrom BootTime      `json:"lease_from_ns,omitzero"`

	Caller   Caller    `json:"caller,omitzero"`
	Detached bool      `json:"detached,omitzero"` // no client waits for it: -d, or cron
	Version  string    `json:"version,omitzero"`  // of the application
	Slot     time.Time `json:"slot,omitzero"`     // when a cron run was due
	Attempt  int       `json:"attempt,omitzero"`
	Reason   string    `json:"reason,omitzero"` // why, in the caller's words

	Meta map[string]string `json:"meta,omitzero"` // kept and shown as it is, at most MaxMeta
}

// MaxGrace is the longest grace that a run has when the supervisor ends, as with the machine, and the longest that
// anybody but root may ask for.
const MaxGrace = 10 * time.Minute

// CheckGrace refuses a grace that user uid may not ask for.
func CheckGrace(uid uint32, grace time.Duration) error {
	if grace < 0 || grace > MaxGrace && uid != 0 {
		return fmt.Errorf("grace: expected 0s to 10m, have %s; only root may ask for more", grace)
	}
	return nil
}

// MaxMeta is how many keys a run's Meta has at most.
const MaxMeta = 32

// Keys of a run's Meta.
const (
	MetaHost       = "host"        // the instance that it ran on
	MetaLogin      = "login"       // the account that its caller had logged in with
	MetaChosenUser = "chosen_user" // present when root chose its user
	MetaShared     = "shared"      // present when others than its caller may attach to its terminal
	MetaRegister   = "register"    // where a job's slot is claimed
)

// States of a run.
const (
	StateStarting = "starting"
	StateRunning  = "running"
	StateExited   = "exited"
	StateLost     = "lost" // the supervisor died: how it ended is not known

	StateInterrupted = "interrupted" // ended by what happened to its instance: Interrupted. An older supervisor: exited
)

// Run is what is known of a run: what is on disk and on the sockets; verbs print it as an api.PrintedRun. Its texts are
// bounded, so that what a job's file says does not fill memory and disk of those who keep it. Args may hold secrets and
// is for root alone, who asks for one run: no list has it.
type Run struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name"`
	Args    []string  `json:"args,omitzero"`     // the first MaxArgs bytes of them
	AllArgs AllArgs   `json:"all_args,omitzero"` // when Args is not all
	IO      string    `json:"io"`
	Dir     string    `json:"dir,omitzero"`
	User    string    `json:"user,omitzero"`
	UID     uint32    `json:"uid"`
	Caller  Caller    `json:"caller,omitzero"`
	Lock    string    `json:"lock,omitzero"`
	Version string    `json:"version,omitzero"`
	Slot    time.Time `json:"slot,omitzero"`
	Attempt int       `json:"attempt,omitzero"`
	Reason  string    `json:"reason,omitzero"`

	Meta map[string]string `json:"meta,omitzero"`

	State      string    `json:"state"`
	PID        int       `json:"pid,omitzero"`
	Started    time.Time `json:"started,omitzero"`
	StartSeq   uint64    `json:"start_seq"`
	Supervisor string    `json:"supervisor,omitzero"` // version of the supervisor that holds it
	Detached   bool      `json:"detached,omitzero"`
	Attached   bool      `json:"attached,omitzero"` // a client is at its terminal now

	Ended      time.Time     `json:"ended,omitzero"`
	EndSeq     uint64        `json:"end_seq,omitzero"` // 0 while it runs
	ExitCode   int           `json:"exit_code"`        // DESIGN §6; 124 when TimedOut
	Signal     int           `json:"signal,omitzero"`
	OOM        bool          `json:"oom,omitzero"`
	PeakMemory uint64        `json:"peak_memory,omitzero"` // bytes
	CPU        time.Duration `json:"cpu_ns,omitzero"`
	TimedOut   bool          `json:"timed_out,omitzero"`
	StoppedBy  string        `json:"stopped_by,omitzero"`  // "timeout", "idle", "stop", "client vanished", Stopped…
	LeftBehind int           `json:"left_behind,omitzero"` // processes that outlived the command and were ended

	Output      string `json:"output,omitzero"`       // file of a spooled run, for OpenOutput
	OutputBytes int64  `json:"output_bytes,omitzero"` // written; what is kept may be less
	Truncated   bool   `json:"truncated,omitzero"`
}

// Values of StoppedBy of a run that was interrupted.
const (
	StoppedShutdown = "shutdown" // the supervisor ends, as with the machine
	StoppedLease    = "lease"    // which was not renewed
	StoppedReplaced = "replaced" // by the job's next run, as its overlap policy says
)

// Replaced reports whether the job's next run ended it. That is no failure either, and its slot was served.
func (r Run) Replaced() bool { return r.StoppedBy == StoppedReplaced }

// Interrupted reports whether the run was ended by what happened to its instance, and not by itself, its limits or a
// person. Such an end is no failure of a job. One that exits with 0 has used its grace to finish.
func (r Run) Interrupted() bool {
	return r.ExitCode != 0 && !r.OOM && (r.StoppedBy == StoppedShutdown || r.StoppedBy == StoppedLease)
}

// MaxArgs is how many bytes of its arguments a run's record has.
const MaxArgs = 4 << 10

// AllArgs describes the arguments of a run whose record has only the first of them.
type AllArgs struct {
	Count  int    `json:"count"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"` // as sha256sum prints for /proc/PID/cmdline
}

// Live reports whether the run has not ended.
func (r Run) Live() bool { return r.State == StateStarting || r.State == StateRunning }

// Took is how long the run lasted, or has lasted so far.
func (r Run) Took() time.Duration {
	if r.Ended.IsZero() {
		return time.Since(r.Started)
	}
	return r.Ended.Sub(r.Started)
}

// Event types.
const (
	EventStarted = "started"
	EventEnded   = "ended"
)

// Event reports a run's start or end. Seq grows: an agent that was away asks for the events after the last that
// it has seen.
type Event struct {
	Seq  uint64 `json:"seq"`
	Type string `json:"type"`
	Run  Run    `json:"run"`
}

// Info is what a supervisor says of itself.
type Info struct {
	API      int       `json:"api"`
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Live     int       `json:"live"`     // runs
	Place    string    `json:"place"`    // how runs are contained, in words
	Retiring bool      `json:"retiring"` // ends with its last run, for a newer one to take over
	LastSeq  uint64    `json:"last_seq"`

	// HeldUp counts, by user, what hangs in the kernel since a process of that user holds it up: runs that have ended
	// whose output cannot be read to its end, and descriptors that cannot be closed. Omitted: nothing.
	HeldUp map[uint32]int `json:"held_up,omitempty"`
}

// Filter chooses runs. Zero values choose all.
type Filter struct {
	Live  bool   // only those that run
	Kind  string // "exec" or "cron"
	Name  string
	Limit int // the newest so many; 0: all

	// LeftOut, unless nil, is set to how many runs were left out since the list would be larger than MaxList.
	LeftOut *int
}

// MaxList is how many bytes a list of runs has at most.
const MaxList = 2 << 20

// LeftOut is the header of a list that says how many runs were left out of it.
const LeftOut = "Agent-Runs-Left-Out"

// StartBody is what a start carries: the request, and which of the descriptors sent along is what.
type StartBody struct {
	Request
	HasConn bool `json:"has_conn,omitzero"` // the first descriptor is the client's connection
}

// AttachBody is what an attach carries beside the client's connection.
type AttachBody struct {
	Size session.Size `json:"size,omitzero"`
}

// StopBody is what a stop and a shutdown carry.
type StopBody struct {
	Grace time.Duration `json:"grace_ns,omitzero"`
	By    string        `json:"by,omitzero"`
}

// SignalBody is what a signal carries.
type SignalBody struct {
	Signal int `json:"signal"`
}
