package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// come deals with an entry whose time has come: a slot, or a retry.
func (s *Scheduler) come(e *entry, now time.Time) {
	if e.next < never && e.next*int64(time.Second)+e.splay <= now.UnixNano() && e.off == "" && e.paused == 0 && !e.gone {
		s.slot(e, now)
	} else if a := e.act; a != nil && a.retry != nil {
		f := *a.retry
		a.retry = nil
		s.offer(e, f, now)
	}
	s.arm(e)
}

// slot makes one start of the slots that have come, or tells that they were missed.
func (s *Scheduler) slot(e *entry, now time.Time) {
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
		s.settle(e, due)
		return
	}
	s.offer(e, f, now)
}

// latest gives the last slot that is not after limit, first being one; the slots before
// (first, if it is that itself) and after it; and how many there are from first on, where
// counting ends at a thousand.
func latest(sched Schedule, first, limit time.Time) (at, before, next time.Time, n int) {
	const most = 1000
	at, before = first, first
	for n = 1; ; n = min(n+1, most+1) {
		if n == most {
			at = leap(sched, at, limit)
		}
		if next = sched.Next(at); next.IsZero() || next.After(limit) {
			return at, before, next, n
		}
		before, at = at, next
	}
}

// leap gives a slot not long before limit, but not the last, or at, whichever is later:
// what is between need not be counted.
func leap(sched Schedule, at, limit time.Time) time.Time {
	for w := time.Minute; ; w *= 2 {
		from := limit.Add(-w)
		if !from.After(at) {
			return at
		}
		if c := sched.Next(from); !c.IsZero() {
			if next := sched.Next(c); !next.IsZero() && !next.After(limit) {
				return c
			}
		}
	}
}

// whyLate says why slots could not start in time.
func (s *Scheduler) whyLate(due time.Time, n int) string {
	why := s.late
	if why == "" {
		why = "the agent did not get to run"
	}
	return slots(due, n) + ": " + why
}

// slots names n slots by the last of them.
func slots(due time.Time, n int) string {
	if n > 1 {
		return fmt.Sprintf("%d slots, the last of %s", n, due.Format(time.RFC3339))
	}
	return "due " + due.Format(time.RFC3339)
}

// abandon tells of slots that have come and have not been offered, as while starts are
// held, and now never will be.
func (s *Scheduler) abandon(e *entry, now time.Time, why string) {
	due, n := s.passOver(e, now)
	s.miss(e, due, n, "missed: "+why+"; "+slots(due, n))
}

// passOver settles the slots up to a time that have not been offered, and gives the last
// of them and how many there are.
func (s *Scheduler) passOver(e *entry, until time.Time) (due time.Time, n int) {
	if e.off != "" || e.paused != 0 || e.gone || e.next > until.Unix() {
		return due, 0
	}
	due, _, next, n := latest(e.job.Schedule, time.Unix(e.next, 0), until)
	e.setNext(next)
	s.settle(e, due)
	return due.In(e.job.Location), n
}

// leave tells of slots that have come and are left to the next life, if there is one.
func (s *Scheduler) leave(e *entry, now time.Time) {
	var due time.Time
	n := 0
	if e.act != nil && e.act.waiting != nil {
		due, n = e.act.waiting.Due, 1+e.act.waiting.Coalesced
	}
	if e.next <= now.Unix() && e.off == "" && e.paused == 0 && !e.gone {
		held := 0
		due, _, _, held = latest(e.job.Schedule, time.Unix(e.next, 0), now)
		n += held
	}
	if n > 0 {
		s.tell(Event{Kind: Owed, Job: e.job.Name, Due: due.In(e.job.Location), Count: n, Text: "not started before the agent stops"})
	}
}

// miss counts and tells slots that will not run; due is the last of them, or of those
// that were found with them.
func (s *Scheduler) miss(e *entry, due time.Time, n int, text string) {
	if n == 0 {
		return
	}
	a := e.active()
	a.counts.Missed += uint64(n)
	a.counts.LastMissed = due
	s.tell(Event{Kind: Missed, Job: e.job.Name, Due: due, Count: n, Text: text})
}

// settle notes that nothing up to due is owed any more.
func (s *Scheduler) settle(e *entry, due time.Time) {
	if due.Unix() > e.settled {
		e.settled = due.Unix()
		s.keep(e)
	}
}

// offer starts a run, or does what the job's overlap policy says, or lets it wait.
func (s *Scheduler) offer(e *entry, f Firing, now time.Time) {
	a := e.active()
	if w := a.waiting; w != nil && w.Reason == Retry {
		s.giveUp(e, *w, "the next slot has come")
		a.waiting = &f // a first attempt, at a slot of its own
		return
	}
	if a.waiting != nil {
		// It has not begun, so it can stand for this slot too.
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
			s.tell(Event{Kind: Replaced, Job: e.job.Name, Due: f.Due, Count: len(a.running), Text: "the run since " + since.Format(time.RFC3339) + " is ended for the next one"})
			s.wait(e, f, now, "the run that it replaces")
			return
		}
	}
	if why := s.full(e); why != "" {
		s.wait(e, f, now, why)
		return
	}
	s.start(e, f, s.cfg.Runner.Run)
}

// overlap counts and tells slots that are skipped since the job still runs.
func (s *Scheduler) overlap(e *entry, f Firing, since, now time.Time) {
	a := e.act
	a.counts.Overlapped += uint64(1 + f.Coalesced)
	if a.overlapSince.IsZero() {
		a.overlapSince = f.Due
	}
	s.settle(e, f.Due)
	s.tell(Event{Kind: Overlapped, Job: e.job.Name, Due: f.Due, Count: 1 + f.Coalesced,
		Text: fmt.Sprintf("skipped: still running since %s (%s)", since.Format(time.RFC3339), now.Sub(since).Round(time.Second))})
}

// full says what a start must wait for, or "".
func (s *Scheduler) full(e *entry) string {
	switch {
	case s.cfg.Limit > 0 && s.running >= s.cfg.Limit:
		return fmt.Sprintf("room: this host runs %d at once", s.cfg.Limit)
	case e.job.Lock != "" && s.locks[e.job.Lock] > 0:
		return "the lock " + e.job.Lock
	}
	return ""
}

// wait keeps a start for later. At most one waits for each job.
func (s *Scheduler) wait(e *entry, f Firing, now time.Time, what string) {
	a := e.active()
	a.waiting, a.waitingSince, a.waitingFor = &f, now, what
	s.busy[e] = true
	s.waiting = append(s.waiting, e)
	s.tell(Event{Kind: Waiting, Job: e.job.Name, Due: f.Due, Count: 1 + f.Coalesced, Text: "waits for " + what})
}

// startWaiting starts what waited and can start now, the first come first.
func (s *Scheduler) startWaiting() {
	if len(s.waiting) == 0 || s.base == nil || s.held() {
		return
	}
	for i := 0; i < len(s.waiting) && (s.cfg.Limit == 0 || s.running < s.cfg.Limit); {
		e := s.waiting[i]
		switch a := e.act; {
		case a.waiting == nil: // dropped
		case len(a.running) > 0 && e.job.Overlap != Allow, s.full(e) != "":
			i++
			continue
		default:
			s.startWaited(e)
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}

// startWaited starts what waited, and lets it say so.
func (s *Scheduler) startWaited(e *entry) {
	a := e.act
	f := *a.waiting
	a.waiting, a.overdueTold = nil, false
	waited := max(0, s.cfg.Now().Sub(a.waitingSince).Round(time.Second)) // the clock may have been set back
	f.Why = join(f.Why, fmt.Sprintf("waited %s for %s", waited, a.waitingFor))
	if f.Coalesced > 0 {
		f.Why = fmt.Sprintf("%d slots, the last of %s: %s", f.Coalesced+1, f.Due.Format(time.RFC3339), f.Why)
	}
	s.start(e, f, s.cfg.Runner.Run)
}

// dropWaiting forgets a start that waits and a retry that is to come.
func (s *Scheduler) dropWaiting(e *entry, why string) {
	if e.act == nil {
		return
	}
	if f := e.act.waiting; f != nil {
		e.act.waiting = nil // startWaiting takes it off the list
		s.rest(e)
		s.tell(Event{Kind: Dropped, Job: e.job.Name, Due: f.Due, Count: 1 + f.Coalesced, Text: "the waiting start is dropped: " + why})
	}
	s.dropRetry(e, why)
}

func (s *Scheduler) dropRetry(e *entry, why string) {
	if e.act == nil || e.act.retry == nil {
		return
	}
	s.giveUp(e, *e.act.retry, why)
	e.act.retry = nil
}

func (s *Scheduler) giveUp(e *entry, f Firing, why string) {
	s.tell(Event{Kind: GaveUp, Job: e.job.Name, Due: f.Due, Count: 1, Text: "failed, and is not tried again: " + why})
}

// start starts a run now.
func (s *Scheduler) start(e *entry, f Firing, do func(context.Context, Firing) error) *run {
	s.seq++
	f.Seq, f.Job = s.seq, *e.job
	a := e.active()
	if f.Reason == Scheduled {
		a.overlapSince = time.Time{}
	}
	ctx, cancel := context.WithCancelCause(s.base)
	r := &run{started: s.cfg.Now(), owed: never, cancel: cancel, done: make(chan error, 1)}
	f.Begun = func() { s.begun(e, r) }
	r.firing = f
	switch f.Reason {
	case Manual:
	case Adopted:
		if due, n := s.passOver(e, f.Due.Add(-time.Second)); n > 0 {
			s.tell(Event{Kind: Dropped, Job: e.job.Name, Due: due, Count: n, Text: "not on record as started, and the run of a later slot goes on, which may stand for it: " + slots(due, n)})
		}
		s.settle(e, f.Due)
		if e.next <= f.Due.Unix() { // it was not on record as settled
			e.after(f.Due)
			s.arm(e)
		}
	default:
		r.owed, e.settled = e.settled, max(e.settled, f.Due.Unix())
	}
	a.running = append(a.running, r)
	s.busy[e] = true
	s.running++
	if f.Job.Lock != "" {
		s.locks[f.Job.Lock]++
	}
	s.runs.Go(func() {
		err := guard(ctx, f, do)
		s.finish(e, r, err, context.Cause(ctx))
		cancel(nil)
		r.done <- err
	})
	return r
}

// begun settles the slot of a run that is recorded.
func (s *Scheduler) begun(e *entry, r *run) {
	s.mu.Lock()
	defer s.unlock()
	s.recorded(e, r)
}

func (s *Scheduler) recorded(e *entry, r *run) {
	if r.owed != never {
		r.owed = never
		s.keep(e)
	}
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

// finish notes the end of a run, and starts or plans what follows from it.
func (s *Scheduler) finish(e *entry, r *run, err, cause error) {
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Now()
	a := e.act
	if errors.Is(cause, ErrStopping) && r.owed != never { // before it was recorded: the next life owes it
		e.settled = min(e.settled, r.owed)
		s.tell(Event{Kind: Owed, Job: e.job.Name, Due: r.firing.Due, Count: 1 + r.firing.Coalesced, Text: "not begun before the agent stops"})
	}
	s.recorded(e, r)
	a.running = slices.DeleteFunc(a.running, func(o *run) bool { return o == r })
	s.running--
	if lock := r.firing.Job.Lock; lock != "" {
		if s.locks[lock]--; s.locks[lock] == 0 {
			delete(s.locks, lock)
		}
	}
	a.note(r, err, cause, now)
	if errors.Is(err, errPanicked) {
		s.tell(Event{Kind: Panicked, Job: e.job.Name, Due: r.firing.Due, Count: 1 + r.firing.Coalesced, Text: "whether it runs is not known: " + err.Error()})
	}
	if err != nil && cause == nil && s.base != nil && r.firing.attemptLeft(e.job, err) { // without base: the next life's
		s.retry(e, r.firing, now)
	}
	if e.gone && e.idle() {
		s.forget(e)
	}
	s.startWaiting()
	s.rest(e)
}

// rest takes a job that neither runs nor waits off the busy ones.
func (s *Scheduler) rest(e *entry) {
	if e.idle() && e.act.waiting == nil {
		delete(s.busy, e)
	}
}

// attemptLeft reports whether the job wants another attempt after this one ended so.
func (f Firing) attemptLeft(j *Job, err error) bool {
	switch {
	case f.Reason == Manual, errors.Is(err, ErrElsewhere):
		return false
	case errors.Is(err, ErrLost):
		return j.RetryOnLoss && f.Attempt <= max(j.Retries, 1)
	}
	return f.Attempt <= j.Retries
}

// retry plans the next attempt, or says why there is none.
func (s *Scheduler) retry(e *entry, f Firing, now time.Time) {
	a, why := e.act, ""
	switch {
	case e.gone:
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
	next.Reason, next.Attempt, next.Why = Retry, f.Attempt+1, fmt.Sprintf("attempt %d of %d", f.Attempt+1, max(f.Job.Retries, 1)+1)
	a.retry, a.retryAt = &next, now.Add(backoff(e.job.Backoff, f.Attempt))
	s.arm(e)
	s.poke()
}

// backoff doubles with each attempt that failed.
func backoff(first time.Duration, attempt int) time.Duration {
	d := first
	for ; attempt > 1 && d < longestBackoff; attempt-- {
		d *= 2
	}
	return min(d, max(first, longestBackoff))
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
