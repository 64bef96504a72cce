package scheduler

import (
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
	Started time.Time
	Waits   string // what the start waits for; "" when the run has begun
	Reason  Reason
}

// WaitState is a start that waits.
type WaitState struct {
	For   string
	Slots int // that it stands for
}

// Blocked says why a start of the job of that name would have to wait or be left out now, whatever its overlap policy
// says of its other runs; "" when it would begin.
func (s *Scheduler) Blocked(name string) string {
	s.mu.Lock()
	defer s.unlock()
	e := s.entries[name]
	switch {
	case e == nil || e.removed:
		return "it is not in the cron file any more"
	case s.held():
		return "starts are held"
	case e.paused != 0:
		return "it is paused here"
	case e.off != "":
		return "off here: " + e.off
	}
	return s.blockedBy(e)
}

// Snapshot gives the state of every job, in the order of the table. Jobs removed from it that still run come last.
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
		st.Running = append(st.Running, RunState{r.started, r.waits, r.firing.Reason})
	}
	if a.waiting != nil {
		st.Waiting = &WaitState{a.waitingFor, 1 + a.waiting.Coalesced}
	}
	if a.retry != nil {
		st.Retry = a.retryAt
	}
	st.Last, st.Counts = a.last, a.counts
	st.Counts.Since = a.overlapSince
	return st
}
