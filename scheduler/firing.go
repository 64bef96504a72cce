package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Firing is one run that is to start now.
type Firing struct {
	Job     Job
	Due     time.Time // the slot: the scheduled time, without splay, the same in a whole fleet
	Reason  Reason
	Why     string // more about the reason; may be empty
	Attempt int    // from 1; above 1 the reason is Retry

	// Coalesced is how many earlier slots this run stands for beside its own. Counting ends at 1000.
	Coalesced int

	Started time.Time // of a run that is adopted
	Forced  bool      // Trigger's force

	// Begun is set by the Scheduler. A [Runner] calls it once the run is recorded durably.
	// Until then the slot stays owed: a process that ends earlier leaves it to the next one.
	Begun func()

	// Waits is set by the Scheduler. A [Runner] calls it with what the start waits for. While that is elsewhere, on
	// another host, the start takes neither room nor lock of this one.
	Waits func(what string, elsewhere bool)

	// MayStart is set by the Scheduler. A [Runner] calls it after each wait: before it claims the slot, and before it
	// starts the run. It waits while starts are held. The context that it returns is for the next wait: it ends when
	// MayStart is to be called again. The error is [ErrDropped] or [ErrChanged], which Run returns, or the cause of the
	// end of its context.
	MayStart func(context.Context) (context.Context, error)
}

// Final reports whether no retry follows if this attempt fails.
func (f Firing) Final() bool { return f.Reason == Manual || f.Attempt > f.Job.Retries }

// attemptLeft reports whether the job wants another attempt after this one ended with err.
func (f Firing) attemptLeft(j *Job, err error) bool {
	switch {
	case f.Reason == Manual, errors.Is(err, ErrElsewhere), errors.Is(err, ErrReplaced), isTaken(err):
		return false
	case errors.Is(err, ErrLost), errors.Is(err, ErrInterrupted) && j.RetryOnLoss:
		return j.RetryOnLoss && f.Attempt <= max(j.Retries, 1)
	}
	return f.Attempt <= j.Retries
}

var errPanicked = errors.New("the runner panicked")

// guard makes an error of a Runner's panic: one job's bug must not end the others.
func guard(ctx context.Context, f Firing, do func(context.Context, Firing) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanicked, p)
		}
	}()
	return do(ctx, f)
}

// Reason says why a run starts.
type Reason string

const (
	Scheduled Reason = "scheduled"
	CatchUp   Reason = "catch-up" // a slot passed before it could start
	Retry     Reason = "retry"
	Manual    Reason = "manual"
	Adopted   Reason = "adopted" // it ran already when this Scheduler started
)

// A Runner runs jobs. Run returns when the run has ended, or when its end can no longer be
// known; a nil error means that it succeeded. It is called from many goroutines.
//
// The Runner keeps the job's Timeout, which must hold while the agent restarts. The
// context has two causes only, see context.Cause: [ErrReplaced], end the run; and
// [ErrStopping], the Scheduler stops and Run must return soon, whether the run ends or not.
type Runner interface {
	Run(ctx context.Context, f Firing) error
}

// Result is how a run ended.
type Result struct {
	Due     time.Time
	Started time.Time
	Err     error // nil: it succeeded
}

// Counts count since the Scheduler first saw the job.
type Counts struct {
	Runs      uint64 // that ended here, retries included
	Failed    uint64 // of those
	Replaced  uint64 // of those: ended for the next one, which is no failure
	Elsewhere uint64 // slots that another instance ran

	Overlapped uint64    // slots skipped since the job still ran
	Since      time.Time // the first since a run last started on its slot; zero: none
	Missed     uint64    // slots that could not start and were too old to catch up
	LastMissed time.Time
}

// Errors that a Runner may return beside failures, and causes of its context's end.
var (
	// ErrElsewhere says that another instance runs this slot: no failure, no retry.
	ErrElsewhere = errors.New("another instance runs it")
	// ErrLost says that the run started but its end cannot be known. It is tried again only
	// where the job says retry_on_loss.
	ErrLost = errors.New("the end of the run is not known")

	// ErrInterrupted says that the run was ended by what happened to its host: it is tried again as after a failure,
	// and as after a loss.
	ErrInterrupted = errors.New("interrupted")

	// ErrDropped says that a start that has waited must not happen any more: the job was paused or turned off, or has
	// left the table. The Scheduler reports it.
	ErrDropped = errors.New("the waiting start is dropped")
	// ErrChanged says that the job of a start that has waited is another now: the Scheduler starts it anew.
	ErrChanged = errors.New("the job has changed")

	// ErrReplaced is a cause of a Runner's context, and the Runner's error for a run that another instance replaces.
	ErrReplaced = errors.New("replaced by the next run")
	ErrStopping = errors.New("the agent stops")
)

func isTaken(err error) bool { return errors.Is(err, ErrDropped) || errors.Is(err, ErrChanged) }

// RunsElsewhere is a Runner's error for a slot that comes due while another instance runs the job: it counts as
// overlapped. It is an [ErrElsewhere].
type RunsElsewhere struct {
	By    string
	Since time.Time
}

func (e *RunsElsewhere) Error() string {
	return fmt.Sprintf("%s runs it since %s", e.By, e.Since.UTC().Format(time.RFC3339))
}

// Is makes it an ErrElsewhere.
func (e *RunsElsewhere) Is(target error) bool { return target == ErrElsewhere }

// Errors of Trigger, Pause and Resume.
var (
	ErrUnknownJob = errors.New("no such job")
	ErrBusy       = errors.New("the job runs already")
	ErrNotRunning = errors.New("the scheduler is not running")
)

// SavedJob is the state of one job that outlives the process.
type SavedJob struct {
	ScheduleKey string    `json:"spec"`            // the schedule and zone that Last belongs to
	Last        time.Time `json:"last"`            // every slot up to here is done: started, skipped or missed
	Paused      time.Time `json:"paused,omitzero"` // since when; zero when it is not
}

// An Event is something about a job, or about all of them, for the log, the metrics and
// the notices, that no [Runner] sees.
type Event struct {
	Kind  EventKind
	Job   string    // "" when it concerns all
	Due   time.Time // the slot; zero when there is none
	Count int       // slots concerned
	Text  string    // a sentence
	Err   error     // of SaveFailed
}

// EventKind tells events apart.
type EventKind string

const (
	Missed     EventKind = "missed"     // slots passed and will not run
	Overlapped EventKind = "overlapped" // slots skipped since the job still ran
	Replaced   EventKind = "replaced"   // a run was ended for the next one
	Waiting    EventKind = "waiting"    // a start waits: for room, a lock, or the run before
	Dropped    EventKind = "dropped"    // a start that waited, or may have, will not happen
	GaveUp     EventKind = "gave-up"    // a run that failed is not tried again, though its job says so
	Panicked   EventKind = "panicked"   // the Runner did, and reports nothing itself
	Overdue    EventKind = "overdue"    // a run should have started or ended by now
	Owed       EventKind = "owed"       // slots that passed are left to the next process, if there is one
	HoldEnded  EventKind = "hold-ended" // the hold reached its limit without a release
	ClockStep  EventKind = "clock-step" // the wall clock was set
	SaveFailed EventKind = "save-failed"
)
