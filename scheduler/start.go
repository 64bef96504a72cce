package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// activate handles an entry that is due: a slot, or a retry.
func (s *Scheduler) activate(e *entry, now time.Time) {
	if e.enabled() && e.next < never && e.next*int64(time.Second)+e.splay <= now.UnixNano() {
		s.fireSlots(e, now)
	} else if a := e.act; a != nil && a.retry != nil {
		f := *a.retry
		a.retry = nil
		s.submit(e, f, now)
	}
	s.arm(e)
}

// fireSlots submits one start for all slots that have passed, or reports them as missed.
func (s *Scheduler) fireSlots(e *entry, now time.Time) {
	due, before, next, n := latest(e.job.Schedule, time.Unix(e.next, 0), now.Add(-time.Duration(e.splay)))
	e.setNext(next)
	due, before = due.In(e.job.Location), before.In(e.job.Location)
	s.dropRetry(e, "the next slot has come")
	late := now.Sub(due) - time.Duration(e.splay)
	f := Firing{Due: due, Reason: Scheduled, Attempt: 1, Coalesced: n - 1}
	switch {
	case n == 1 && late < onTime:
	case late <= e.job.CatchUp && e.job.CatchUp > 0:
		f.Reason, f.Why = CatchUp, s.whyLate(due, n)
	case late < onTime:
		s.miss(e, before, n-1, "missed, and too old to catch up: "+s.whyLate(before, n-1))
		f.Coalesced = 0
	default:
		s.miss(e, due, n, "missed, and too old to catch up: "+s.whyLate(due, n))
		s.markDone(e, due)
		return
	}
	s.submit(e, f, now)
}

// whyLate says why slots could not start in time.
func (s *Scheduler) whyLate(due time.Time, n int) string {
	why := s.lateReason
	if why == "" {
		why = "the agent did not get to run"
	}
	return slots(due, n) + ": " + why
}

// abandon reports slots that passed without a start, as during a hold, and will not run.
func (s *Scheduler) abandon(e *entry, now time.Time, why string) {
	due, n := s.skipUntil(e, now)
	s.miss(e, due, n, "missed: "+why+"; "+slots(due, n))
}

// skipUntil marks slots up to a time as done that were not submitted. It gives the last of them and how many there are.
func (s *Scheduler) skipUntil(e *entry, until time.Time) (due time.Time, n int) {
	if !e.enabled() || e.next > until.Unix() {
		return due, 0
	}
	due, _, next, n := latest(e.job.Schedule, time.Unix(e.next, 0), until)
	e.setNext(next)
	s.markDone(e, due)
	return due.In(e.job.Location), n
}

// reportOwed reports slots that have passed and are left to the next process, if there is one.
func (s *Scheduler) reportOwed(e *entry, now time.Time) {
	var due time.Time
	n := 0
	if e.act != nil && e.act.waiting != nil {
		due, n = e.act.waiting.Due, 1+e.act.waiting.Coalesced
	}
	if e.enabled() && e.next <= now.Unix() {
		held := 0
		due, _, _, held = latest(e.job.Schedule, time.Unix(e.next, 0), now)
		n += held
	}
	if n > 0 {
		s.reportJob(Owed, e, due.In(e.job.Location), n, "not started before the agent stops")
	}
}

// miss counts and reports slots that will not run; due is the last of them, or of those that were found with them.
func (s *Scheduler) miss(e *entry, due time.Time, n int, text string) {
	if n == 0 {
		return
	}
	a := e.active()
	a.counts.Missed += uint64(n)
	a.counts.LastMissed = due
	s.reportJob(Missed, e, due, n, text)
}

// markDone records that no slot up to due is owed any more.
func (s *Scheduler) markDone(e *entry, due time.Time) {
	if due.Unix() > e.doneUntil {
		e.doneUntil = due.Unix()
		s.markDirty(e)
	}
}

// submit starts a run, applies the job's overlap policy, or lets the start wait.
func (s *Scheduler) submit(e *entry, f Firing, now time.Time) {
	a := e.active()
	if w := a.waiting; w != nil && w.Reason == Retry {
		s.giveUp(e, *w, "the next slot has come")
		a.waiting = &f // the first attempt at a new slot
		return
	}
	if a.waiting != nil {
		// It has not started, so it can stand for this slot too.
		a.waiting.Coalesced += 1 + f.Coalesced
		a.waiting.Due = f.Due
		return
	}
	if len(a.running) > 0 {
		since := a.running[0].started
		switch e.job.Overlap {
		case Skip:
			s.overlap(e, f, since, now)
			return
		case Queue:
			s.wait(e, f, now, "the run before it")
			return
		case Replace:
			for _, r := range a.running {
				r.cancel(ErrReplaced)
			}
			text := "the run since " + since.Format(time.RFC3339) + " is ended for the next one"
			s.reportJob(Replaced, e, f.Due, len(a.running), text)
			s.wait(e, f, now, "the run that it replaces")
			return
		}
	}
	if why := s.blockedBy(e); why != "" {
		s.wait(e, f, now, why)
		return
	}
	s.launch(e, f, s.cfg.Runner.Run)
}

// overlap counts and reports slots that are skipped since the job still runs.
func (s *Scheduler) overlap(e *entry, f Firing, since, now time.Time) {
	a := e.act
	a.counts.Overlapped += uint64(1 + f.Coalesced)
	if a.overlapSince.IsZero() {
		a.overlapSince = f.Due
	}
	s.markDone(e, f.Due)
	took := now.Sub(since).Round(time.Second)
	s.reportJob(Overlapped, e, f.Due, 1+f.Coalesced,
		fmt.Sprintf("skipped: still running since %s (%s)", since.Format(time.RFC3339), took))
}

// blockedBy names the limit or lock that a start must wait for, or "".
func (s *Scheduler) blockedBy(e *entry) string {
	switch {
	case s.cfg.Limit > 0 && s.running >= s.cfg.Limit:
		return fmt.Sprintf("room: this host runs %d at once", s.cfg.Limit)
	case e.job.Lock != "" && s.locks[e.job.Lock] > 0:
		return "the lock " + e.job.Lock + " of this host"
	}
	return ""
}

// wait keeps a start for later. At most one waits for each job.
func (s *Scheduler) wait(e *entry, f Firing, now time.Time, what string) {
	a := e.active()
	a.waiting, a.waitingSince, a.waitingFor = &f, now, what
	s.busy[e] = true
	s.waiting = append(s.waiting, e)
	s.reportJob(Waiting, e, f.Due, 1+f.Coalesced, "waits for "+what)
}

// startWaiting starts the waiting firings that can start now, oldest first.
func (s *Scheduler) startWaiting() {
	if len(s.waiting) == 0 || s.base == nil || s.held() {
		return
	}
	for i := 0; i < len(s.waiting) && (s.cfg.Limit == 0 || s.running < s.cfg.Limit); {
		e := s.waiting[i]
		switch a := e.act; {
		case a.waiting == nil: // dropped
		case len(a.running) > 0 && e.job.Overlap != Allow, s.blockedBy(e) != "":
			i++
			continue
		default:
			s.startWaited(e)
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}

// startWaited starts a waiting firing, with the wait added to its Why.
func (s *Scheduler) startWaited(e *entry) {
	a := e.act
	f := *a.waiting
	a.waiting, a.overdueReported = nil, false
	waited := max(0, s.cfg.Now().Sub(a.waitingSince).Round(time.Second)) // the clock may have been set back
	f.Why = join(f.Why, fmt.Sprintf("waited %s for %s", waited, a.waitingFor))
	if f.Coalesced > 0 {
		f.Why = slots(f.Due, f.Coalesced+1) + ": " + f.Why
	}
	s.launch(e, f, s.cfg.Runner.Run)
}

func (s *Scheduler) dropRetry(e *entry, why string) {
	if e.act == nil || e.act.retry == nil {
		return
	}
	s.giveUp(e, *e.act.retry, why)
	e.act.retry = nil
}

func (s *Scheduler) giveUp(e *entry, f Firing, why string) {
	s.reportJob(GaveUp, e, f.Due, 1, "failed, and is not tried again: "+why)
}

// launch starts a run now.
func (s *Scheduler) launch(e *entry, f Firing, do func(context.Context, Firing) error) {
	f.Job = *e.job
	a := e.active()
	ctx, cancel := context.WithCancelCause(s.base)
	r := &run{started: s.cfg.Now(), owedFrom: never, overlaps: a.overlapSince, cancel: cancel}
	if f.Reason == Scheduled {
		a.overlapSince = time.Time{}
	}
	if !f.Started.IsZero() {
		r.started = f.Started
	}
	f.Begun = func() { s.onRecorded(e, r) }
	f.Waits = func(what string, elsewhere bool) { s.onWaits(r, what, elsewhere) }
	f.MayStart = func(ctx context.Context) (context.Context, error) { return s.mayStart(ctx, e, r) }
	r.firing = f
	switch f.Reason {
	case Manual:
	case Adopted:
		if due, n := s.skipUntil(e, f.Due.Add(-time.Second)); n > 0 {
			s.reportJob(Dropped, e, due, n,
				"not on record as started, and the run of a later slot goes on, which may stand for it: "+slots(due, n))
		}
		s.markDone(e, f.Due)
		if e.next <= f.Due.Unix() { // the slot was not saved as done
			e.after(f.Due)
			s.arm(e)
		}
	default:
		r.owedFrom, e.doneUntil = e.doneUntil, max(e.doneUntil, f.Due.Unix())
	}
	a.running = append(a.running, r)
	s.busy[e] = true
	s.occupy(f.Job.Lock)
	s.runs.Go(func() {
		err := guard(ctx, f, do)
		s.finish(e, r, err, context.Cause(ctx))
		cancel(nil)
	})
}

// onRecorded is the Firing's Begun: the slot of a recorded run is done.
func (s *Scheduler) onRecorded(e *entry, r *run) {
	s.mu.Lock()
	defer s.unlock()
	s.recorded(e, r)
	if r.waits != "" {
		r.started, r.waits = s.cfg.Now(), ""
	}
	s.park(r, false)
}

// onWaits is the Firing's Waits.
func (s *Scheduler) onWaits(r *run, what string, elsewhere bool) {
	s.mu.Lock()
	defer s.unlock()
	r.waits = what
	s.park(r, elsewhere)
}

// park frees room and lock of a start that waits for another host, or takes them again. Then there may be one too many
// for a while; the lock is the Runner's to keep.
func (s *Scheduler) park(r *run, parked bool) {
	if r.parked == parked {
		return
	}
	if r.parked = parked; !parked {
		s.occupy(r.firing.Job.Lock)
		return
	}
	s.vacate(r.firing.Job.Lock)
	s.startWaiting()
}

func (s *Scheduler) occupy(lock string) {
	s.running++
	if lock != "" {
		s.locks[lock]++
	}
}

func (s *Scheduler) vacate(lock string) {
	s.running--
	if lock == "" {
		return
	}
	if s.locks[lock]--; s.locks[lock] == 0 {
		delete(s.locks, lock)
	}
}

func (s *Scheduler) recorded(e *entry, r *run) {
	if r.owedFrom != never {
		r.owedFrom = never
		s.markDirty(e)
	}
}

// finish records the end of a run, plans a retry, and starts waiting firings.
func (s *Scheduler) finish(e *entry, r *run, err, cause error) {
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Now()
	a := e.act
	if errors.Is(cause, ErrStopping) && r.owedFrom != never { // not recorded: left to the next process
		e.doneUntil = min(e.doneUntil, r.owedFrom)
		s.reportJob(Owed, e, r.firing.Due, 1+r.firing.Coalesced, "not begun before the agent stops")
	}
	owedFrom := r.owedFrom
	s.recorded(e, r)
	a.running = slices.DeleteFunc(a.running, func(o *run) bool { return o == r })
	if !r.parked {
		s.vacate(r.firing.Job.Lock)
	}
	a.count(r, err, cause)
	if cause == nil && s.base != nil && isTaken(err) {
		s.takeBack(e, r.firing, owedFrom, err)
	}
	if by, ok := errors.AsType[*RunsElsewhere](err); ok {
		s.reportJob(Overlapped, e, r.firing.Due, 1+r.firing.Coalesced, "skipped: "+by.Error())
	}
	if errors.Is(err, errPanicked) {
		s.reportJob(Panicked, e, r.firing.Due, 1+r.firing.Coalesced, "whether it runs is not known: "+err.Error())
	}
	// Without base the Scheduler stops, and the next process retries.
	if err != nil && cause == nil && s.base != nil && r.firing.attemptLeft(e.job, err) {
		s.retry(e, r.firing, now)
	}
	if e.removed && e.idle() {
		s.forget(e)
	}
	s.startWaiting()
	s.goIdle(e)
}

// goIdle removes a job from busy when it neither runs nor waits.
func (s *Scheduler) goIdle(e *entry) {
	if e.idle() && e.act.waiting == nil {
		delete(s.busy, e)
	}
}

// retry plans the next attempt, or says why there is none.
func (s *Scheduler) retry(e *entry, f Firing, now time.Time) {
	a, why := e.act, ""
	switch {
	case e.removed:
		why = "the job is not in the cron file any more"
	case e.off != "":
		why = "off here: " + e.off
	case e.paused != 0:
		why = "the job is paused"
	case a.waiting != nil, a.retry != nil:
		why = "another run of the job is to start"
	}
	if why != "" {
		s.giveUp(e, f, why)
		return
	}
	next := f
	next.Reason, next.Attempt = Retry, f.Attempt+1
	next.Why = fmt.Sprintf("attempt %d of %d", next.Attempt, max(f.Job.Retries, 1)+1)
	a.retry, a.retryAt = &next, now.Add(backoff(e.job.Backoff, f.Attempt))
	s.arm(e)
	s.poke()
}
