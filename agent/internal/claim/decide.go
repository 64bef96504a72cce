package claim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ask is a request in the name of one instance.
type ask struct {
	Request
	owner       string
	environment string // as Run.Environment
	nonce       string // of this claim
	mine        string // nonce of the slot's run, when this process has claimed it before
	mark        string // of the process, on what this claim notes of other runs
	takeOver    bool   // the slot's run is lost, and this instance runs it again
}

// decide returns the outcome of the request by register r at now, which the store's clock has reached. No state means
// that the slot is free: enter.
func (q ask) decide(r Register, now time.Time) Outcome {
	o := Outcome{}
	for _, run := range r.Runs {
		switch {
		case run.Slot.Equal(q.Slot):
		case run.Outcome == "":
			o.Unfinished = append(o.Unfinished, run)
		case o.Before.Nonce == "" && run.Slot.Before(q.Slot):
			o.Before = run
		}
	}
	i := r.find(q.Slot)
	switch {
	case i >= 0 && q.isWon(r.Runs[i]):
		o.State, o.Run = Won, r.Runs[i]
	case i >= 0 && !q.mayReopen(r.Runs[i], now):
		o.State, o.By = Lost, r.Runs[i]
		if q.takeOver && r.Runs[i].live(now) {
			o.State, o.Again = Busy, until(r.Runs[i], now)
		}
	case r.Paused != nil && !q.Manual:
		o.State, o.Paused = Paused, r.Paused
	case q.takeOver && (i < 0 || r.hasLater(q.Slot)), i < 0 && q.isOld(r):
		o.State, o.By = Superseded, newest(r)
	default:
		q.overlap(r, now, &o)
	}
	return o
}

// isWon reports whether run is this claim's own write, or an earlier process's of this attempt.
func (q ask) isWon(run Run) bool {
	return run.Nonce == q.nonce && run.Attempt == attemptNumber(q.Attempt) && run.Outcome == ""
}

// mayReopen reports whether the slot's run is to be written again: by its owner for a further attempt, or, once, by an
// instance that takes it over.
func (q ask) mayReopen(run Run, now time.Time) bool {
	if q.takeOver {
		lost := run.LostBy != "" || run.expired(now) || strings.HasPrefix(run.Outcome, Interrupted)
		return lost && run.TakenFrom == ""
	}
	own := run.Owner == q.owner && (q.mine == "" || run.Nonce == q.mine)
	return q.Attempt > 1 && own && run.Attempt <= q.Attempt
}

// hasLater reports whether a scheduled slot after that one has been claimed.
func (r Register) hasLater(slot time.Time) bool {
	return slices.ContainsFunc(r.Runs, func(run Run) bool { return !run.Manual && run.Slot.After(slot) })
}

// isOld reports whether the slot is older than all that the register lists.
func (q ask) isOld(r Register) bool {
	n := len(r.Runs)
	return n >= keptRuns && q.Slot.Before(r.Runs[n-1].Slot)
}

// overlap decides by the other runs of the job. A run in progress must not leave the register: it would be in no
// other's way any more.
func (q ask) overlap(r Register, now time.Time, o *Outcome) {
	for i, run := range r.Runs {
		leaves := i >= keptRuns-1 && run.Slot.Before(q.Slot) && r.find(q.Slot) < 0
		switch {
		case run.Slot.Equal(q.Slot) || !run.live(now):
		case q.Overlap == Replace && !q.Manual && run.Slot.After(q.Slot):
			o.State, o.By = Superseded, run
			return
		case q.Overlap != Allow && !q.Force || leaves:
			o.State, o.By, o.Again = Busy, run, until(run, now)
			return
		}
	}
}

// until is how long a run that is in progress can keep others from starting.
func until(run Run, now time.Time) time.Duration { return run.Until.Sub(now) + time.Second }

func newest(r Register) Run {
	if len(r.Runs) == 0 {
		return Run{}
	}
	return r.Runs[0]
}

// enter writes the run of a free slot into r, the losses of others, and that the one before is not run again. The times
// are bounds of the store's clock.
func (q ask) enter(r *Register, low, high time.Time) {
	r.noteLost(low, q.mark)
	q.missBefore(r, low)
	run := Run{Slot: q.Slot, Owner: q.owner, Environment: q.environment, Nonce: q.nonce, Claimed: stamp(low),
		Manual: q.Manual, Attempt: attemptNumber(q.Attempt), Command: q.Command}
	i := r.find(q.Slot)
	switch {
	case i >= 0 && q.takeOver:
		if run.TakenFrom = r.Runs[i].Owner; r.Runs[i].Untold != nil {
			run.Untold = &Untold{q.mark, stamp(low)}
		}
	case i >= 0:
		run.Nonce, run.TakenFrom, run.Untold = r.Runs[i].Nonce, r.Runs[i].TakenFrom, r.Runs[i].untoldOf()
	}
	if q.Timeout > 0 {
		run.Limit = stamp(high.Add(q.LockWait + q.Timeout + q.Grace + lease + margin))
	}
	if q.Overlap != Allow || q.Rerun {
		run.renew(low, high, q.Grace)
	}
	if i >= 0 {
		r.Runs[i] = run
	} else {
		r.add(run)
	}
}

// renew gives the run a lease from now on. It never lasts beyond the run's limit.
func (r *Run) renew(low, high time.Time, grace time.Duration) {
	r.Renewed, r.Until = stamp(low), stamp(high.Add(lease+grace+margin))
	if !r.Limit.IsZero() && r.Until.After(r.Limit) {
		r.Until = r.Limit
	}
}

// noteLost writes the loss of each run whose owner let its lease pass, and takes over what another process has not
// reported. It reports whether there was any.
func (r *Register) noteLost(low time.Time, mark string) (any bool) {
	for i, run := range r.Runs {
		switch {
		case run.expired(low):
			r.Runs[i].Outcome, r.Runs[i].Finished, r.Runs[i].LostBy = lostText(run), stamp(low), mark
		case run.Untold == nil || run.Untold.By == mark || run.Untold.left(low) > 0:
			continue
		}
		r.Runs[i].Untold, any = &Untold{mark, stamp(low)}, true
	}
	return any
}

// Interrupted reports whether the run has ended since its owner was, or its lease.
func (r Run) Interrupted() bool { return strings.HasPrefix(r.Outcome, Interrupted) }

// missed begins the outcome of an interrupted run that is not run again.
const (
	missed = "missed, as "
	says   = " says: "
)

func (r Run) isMissed() bool { return strings.HasPrefix(r.Outcome, missed) }

// miss notes that the run is not run again, as owner says, whose process of that mark reports it.
func (r *Run) miss(owner, mark string, low time.Time) {
	r.Outcome, r.Untold = oneLine(missedBy(owner)+r.Outcome, maxOutcome), &Untold{mark, stamp(low)}
}

func missedBy(owner string) string { return oneLine(missed+owner, maxOutcome/2) + says }

// missBefore notes that the last slot before this one is not run again if its run was interrupted: this one stands for
// it.
func (q ask) missBefore(r *Register, low time.Time) {
	if !q.Rerun || q.Manual || q.takeOver || q.Attempt > 1 {
		return
	}
	i := slices.IndexFunc(r.Runs, func(run Run) bool {
		return !run.Manual && run.Outcome != "" && run.Slot.Before(q.Slot)
	})
	if i >= 0 && r.Runs[i].Interrupted() {
		r.Runs[i].miss(q.owner, q.mark, low)
	}
}

// lostText is the outcome of a run whose owner let its lease pass.
func lostText(run Run) string {
	since := run.Renewed
	if since.IsZero() {
		since = run.Claimed
	}
	return fmt.Sprintf("lost: no word from %s since %s", oneLine(run.Owner, 100), since.UTC().Format(time.RFC3339))
}

// stamp is a time as registers have it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
