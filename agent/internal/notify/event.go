package notify

import "time"

// Kind of an event.
type Kind string

const (
	Started   Kind = "started"   // for check-ins only
	Succeeded Kind = "succeeded" // for check-ins; after a failure it is a recovery
	Failed    Kind = "failed"
	Overdue   Kind = "overdue" // should have started or ended, and did not
	Recovered Kind = "recovered"
	Missed    Kind = "missed"  // was due and did not run
	Doubled   Kind = "doubled" // another environment, which is the event's Job, runs Jobs too
)

func (k Kind) problem() bool { return k == Failed || k == Overdue || k == Missed }

// Event is one thing that happened to one job.
type Event struct {
	// Required.

	Job  string
	Kind Kind
	At   time.Time

	// Optional.

	Run         string        // the run's id
	Exit        int           // the command's exit status
	Reason      string        // one line, without secrets
	Took        time.Duration // how long the run lasted
	Host        string
	Environment string
	Tail        string   // last lines of output; sent only to targets with Tail set
	To          []string // targets to notify beside check-ins; none, or only unknown ones: all
	Jobs        []string // of a Doubled event
	Before      Kind     // Failed or Succeeded: the job's last outcome, when it was no event on this instance
}

// notice is one event for one target.
type notice struct {
	Event
	heldBack int // notices about the same job held back before this one
}
