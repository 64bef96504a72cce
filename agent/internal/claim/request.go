package claim

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Overlap says what becomes of a slot while an earlier run of the job is in progress on any instance.
type Overlap string

// The policies. The zero value is Skip.
const (
	Skip    Overlap = "skip"    // it is Busy
	Queue   Overlap = "queue"   // it is Busy, and the caller asks again
	Replace Overlap = "replace" // it is Busy, and the caller has the run ended: AskToEnd
	Allow   Overlap = "allow"   // it runs beside the other; its own runs are in no other's way, and have no lease
)

// Request is one claim.
type Request struct {
	// Required. Slot is the job's scheduled time; of a Manual run it is the store's time, and not asked for.
	Job    string
	Slot   time.Time
	Window time.Duration // no request starts later; see Claim

	// Optional. How long the run may take: Timeout from its start, 0 for ever, LockWait before that, Grace from the
	// request to end until it is killed.
	Overlap  Overlap
	LockWait time.Duration
	Timeout  time.Duration
	Grace    time.Duration
	Rerun    bool // the run has a lease though Overlap is Allow, so that its loss is noticed

	// Optional. Attempt is above 1 for a further attempt at a slot that this instance has claimed.
	Attempt int
	Manual  bool   // a user starts it: a pause does not keep it from running
	Force   bool   // Manual, and beside any other run
	Command string // a hash of what runs
}

// LockPrefix begins the name under which a lock has a register, as a job has: whoever has claimed a Manual run of it
// holds the lock, renews it and finishes it. No job's name has a slash.
const LockPrefix = "lock/"

func isLock(job string) bool { return strings.HasPrefix(job, LockPrefix) }

// State is the result of a claim.
type State string

// The states.
const (
	Won  State = "won"  // run it: no other instance will
	Lost State = "lost" // another instance has it, or had

	// Superseded: newer slots were claimed, and the register no longer says whether this one was; or a newer one runs,
	// which an older slot does not replace. Do not run it, and report it as skipped.
	Superseded State = "superseded"

	Busy   State = "busy"   // an earlier run of the job is in progress; nothing was written
	Paused State = "paused" // the job is paused; nothing was written
)

// Outcome is the answer to a claim. State is empty when the error is not nil.
type Outcome struct {
	State State

	// Run is the slot's run as the register has it, when Won. By LeaseUntil, a time of CLOCK_BOOTTIME, its owner has
	// renewed the lease or begun to end the run, of which nothing is left after the request's grace. 0: it has no
	// lease.
	Run        Run
	LeaseUntil time.Duration

	By     Run    // the slot's run, when Lost; the newest, when Superseded; the one in progress, when Busy
	Paused *Pause // when Paused

	// Again is when the run that is Busy can be free at the latest, from now.
	Again time.Duration

	// Expired are lost runs, newest first, and Missed are interrupted ones that are not run again: what this claim, or
	// an earlier call of this process, has written of them. The caller reports them, and says so: Told.
	Expired, Missed []Run

	// Unfinished are other runs of the job that the register lists as started and not ended, newest first: in progress,
	// or their owner died.
	Unfinished []Run

	// Before is the last run of an earlier slot that has ended, on any instance; zero when none is known.
	Before Run
}

// Interrupted begins the outcome of a run that its instance ended for a reason of its own, such as a shutdown. Another
// instance may take its slot over.
const Interrupted = "interrupted"

// Result is how a run has ended.
type Result struct {
	Attempt int    // as requested: the end of an earlier attempt than the register has is dropped
	Outcome string // a few words such as "exit 0", which users of every instance see, so never output of the command
	Output  string // optional: the end of its output, which everybody sees who may read the bucket
}

// clipped is r as registers have it.
func (r Result) clipped() Result {
	r.Attempt = attemptNumber(r.Attempt)
	r.Outcome = printed(r.Outcome)
	r.Outcome = strings.ToValidUTF8(r.Outcome[:min(len(r.Outcome), maxOutcome)], "")
	from := max(0, len(r.Output)-maxOutput)
	for from > 0 && from < len(r.Output) && !utf8.RuneStart(r.Output[from]) {
		from++
	}
	r.Output = strings.ToValidUTF8(r.Output[from:], "?")
	return r
}

// attemptNumber is an attempt's number as registers have it: the first has none.
func attemptNumber(n int) int {
	if n <= 1 {
		return 0
	}
	return n
}
