package scheduler

import (
	"errors"
	"fmt"
	"time"
)

// JobState is the state of one job at one moment.
type JobState struct {
	Job    Job
	Off    string    // why it does not run on this host; "" when it does
	Paused time.Time // since when; zero when it is not
	Gone   bool      // not in the table any more, but a run goes on
	Next   time.Time // when it starts next, splay included; zero: not at present

	Running []RunState
	Waiting *WaitState // a start that waits
	Retry   time.Time  // when the next attempt starts; zero: none

	Last   Result // of the run that ended last; its Started is zero when none has
	Counts Counts
}

// RunState is a run in progress.
type RunState struct {
	Seq     uint64
	Due     time.Time
	Started time.Time
	Reason  Reason
	Why     string
	Attempt int
}

// WaitState is a start that waits, and what for.
type WaitState struct {
	Due   time.Time
	Since time.Time
	For   string
	Slots int // that it stands for
}

// Result is how a run ended.
type Result struct {
	Seq     uint64
	Due     time.Time
	Started time.Time
	Ended   time.Time
	Reason  Reason
	Attempt int
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

// count counts the end of a run.
func (a *activity) count(r *run, err, cause error, now time.Time) {
	switch {
	case errors.Is(err, ErrElsewhere):
		a.counts.Elsewhere++
		return
	case errors.Is(cause, ErrStopping): // it may go on without us
		return
	case err != nil && errors.Is(cause, ErrReplaced):
		a.counts.Replaced++
		err = fmt.Errorf("%w: %w", ErrReplaced, err)
	case err != nil:
		a.counts.Failed++
	}
	a.counts.Runs++
	a.overdueReported = false
	a.last = Result{
		Seq: r.firing.Seq, Due: r.firing.Due, Started: r.started, Ended: now,
		Reason: r.firing.Reason, Attempt: r.firing.Attempt, Err: err,
	}
}

// Snapshot gives the state of every job, in the order of the table. Jobs removed from it
// that still run come last.
func (s *Scheduler) Snapshot() []JobState {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]JobState, 0, len(s.entries))
	for _, e := range s.order {
		out = append(out, e.state())
	}
	for _, e := range s.entries {
		if e.removed {
			out = append(out, e.state())
		}
	}
	return out
}

func (e *entry) state() JobState {
	st := JobState{Job: *e.job, Off: e.off, Gone: e.removed}
	if e.paused != 0 {
		st.Paused = time.Unix(e.paused, 0)
	}
	if e.enabled() && e.next < never {
		st.Next = time.Unix(e.next, e.splay).In(e.job.Location)
	}
	a := e.act
	if a == nil {
		return st
	}
	for _, r := range a.running {
		f := &r.firing
		st.Running = append(st.Running, RunState{f.Seq, f.Due, r.started, f.Reason, f.Why, f.Attempt})
	}
	if a.waiting != nil {
		st.Waiting = &WaitState{a.waiting.Due, a.waitingSince, a.waitingFor, 1 + a.waiting.Coalesced}
	}
	if a.retry != nil {
		st.Retry = a.retryAt
	}
	st.Last, st.Counts = a.last, a.counts
	st.Counts.Since = a.overlapSince
	return st
}

// reportOverdue reports, once each, runs that should have ended and starts that should have
// happened.
func (s *Scheduler) reportOverdue(now time.Time) {
	if now.Sub(s.checked).Abs() < longestSleep {
		return
	}
	s.checked = now
	for e := range s.busy {
		a := e.act
		if a.overdueReported {
			continue
		}
		if due, text := a.overdue(now); text != "" {
			a.overdueReported = true
			s.reportJob(Overdue, e, due, 1, text)
		}
	}
}

// overdue says what of the job is late, or "".
func (a *activity) overdue(now time.Time) (due time.Time, text string) {
	for _, r := range a.running {
		limit := r.firing.Job.Timeout
		if took := now.Sub(r.started); limit > 0 && took > limit+overdueAfter {
			text = fmt.Sprintf("still running after %s, its timeout is %s", took.Round(time.Second), limit)
			return r.firing.Due, text
		}
	}
	waited := now.Sub(a.waitingSince)
	if a.waiting != nil && len(a.running) == 0 && waited > overdueAfter {
		return a.waiting.Due, fmt.Sprintf("has waited %s for %s", waited.Round(time.Second), a.waitingFor)
	}
	return time.Time{}, ""
}
