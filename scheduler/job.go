package scheduler

import (
	"math"
	"time"
)

// A Job is one entry of a cron file. It is not changed once parsed, and may be shared.
type Job struct {
	Name     string
	Line     int            // of the file it came from
	Expr     string         // the schedule as written
	Source   any            // what the reader of the file knows of it, for the Runner
	Seconds  bool           // Expr begins with a field for seconds
	Location *time.Location // the zone Expr is read in; never nil once parsed
	Schedule Schedule

	// What to run: exactly one of the three is set.
	Command string   // for /bin/sh -c
	Args    []string // an argv, its first looked up in the run's PATH
	URL     string   // a path of the application, to be POSTed to

	// How to run it.
	Env       []string      // K=V, in the order of the file, over the application's own
	Dir       string        // relative to the application's directory; "" is that itself
	Timeout   time.Duration // 0: none. Enforced by the Runner
	Grace     time.Duration // between TERM and KILL when it is ended; MinGrace to MaxGrace. Enforced by the Runner
	MaxOutput int64         // bytes of output kept; 0: the Runner's own limit
	Notify    []string      // names of notification targets, as the file has them

	// When a run is due, and where.
	Overlap      Overlap
	Retries      int           // further attempts after one that failed
	Backoff      time.Duration // before the first retry; doubles with each, up to an hour
	Splay        time.Duration // the start is late by a hash of host and job, below this
	CatchUp      time.Duration // how old a missed slot may be and still run; 0: not at all
	Lock         string        // jobs of one lock never run at the same time on this host
	LockScope    LockScope     // for the Runner: whether not in the whole fleet either
	On           On
	OnClaimError ClaimError // for the Runner: what to do when no claim can be made
	OnOwnerLoss  OwnerLoss  // for the Runner: what to do with a run whose instance is gone
	RetryOnLoss  bool       // run again when a run's end could not be known
	Enabled      string     // as written, ${NAME:-true} included; "" is true
	Environments []string   // patterns of environment names; empty: everywhere
	ProcessTypes []string   // values of PROCESS_TYPE; empty: web, or none
}

// Overlap is the policy for a slot that comes due while the job still runs.
type Overlap uint8

const (
	Skip    Overlap = iota // the slot is skipped and counted: the default
	Queue                  // one more run starts when this one ends, however many slots came due
	Replace                // the running one is ended, then the new one starts
	Allow                  // both run
)

func (o Overlap) String() string { return [...]string{"skip", "queue", "replace", "allow"}[o&3] }

// On says how many instances of a fleet run a slot.
type On uint8

const (
	OnDefault On = iota // one where a claim store is known, else all
	OnOne
	OnAll
)

func (o On) String() string { return [...]string{"", "one", "all", ""}[o&3] }

// ClaimError is the Runner's policy for a claim that is neither won nor lost.
type ClaimError uint8

const (
	ClaimErrorSkip ClaimError = iota // do not run, report it: the default
	ClaimErrorRun                    // run, perhaps more than once in the fleet
)

func (c ClaimError) String() string { return [...]string{"skip", "run"}[c&1] }

// OwnerLoss is the Runner's policy for a slot that an instance began and did not end, since it is gone.
type OwnerLoss uint8

const (
	OwnerLossReport OwnerLoss = iota // report it: the default
	OwnerLossRerun                   // run it again on another instance, once
)

func (o OwnerLoss) String() string { return [...]string{"report", "rerun"}[o&1] }

// LockScope says where a job's lock holds.
type LockScope uint8

const (
	LockHost        LockScope = iota // among the jobs of one host: the default
	LockEnvironment                  // among those of all instances that share a claim store
)

func (l LockScope) String() string { return [...]string{"host", "environment"}[l&1] }

// Grace of a job. An instance's own shutdown waits no longer than MaxGrace.
const (
	MinGrace = 5 * time.Second // the default, too
	MaxGrace = 10 * time.Minute
)

// Defaults of a job.
const (
	DefaultBackoff = 30 * time.Second
	// DefaultCatchUp is long enough for a deployment, a restart or a reboot, and short
	// enough that a nightly job does not start in the middle of the day.
	DefaultCatchUp = time.Hour
	// CatchUpAlways is catch_up: true, a missed slot runs however old it is.
	CatchUpAlways = time.Duration(math.MaxInt64)
)

// A Table has the jobs of one cron file, in the order of the file. It is not changed once
// parsed. The zero Table is that of an empty or deleted file.
type Table struct {
	Jobs     []Job
	Group    string // as written, ${NAME} included: see [Host.Group]; "" for none
	Warnings Faults // allowed, but probably not meant
	Partial  bool   // faulty jobs are left out; the error of Parse names them
}

// Job finds a job by its name.
func (t Table) Job(name string) (Job, bool) {
	for i := range t.Jobs {
		if t.Jobs[i].Name == name {
			return t.Jobs[i], true
		}
	}
	return Job{}, false
}
