package scheduler

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"time"
)

// SetTable puts a table in force at once. Running jobs go on. A job with the same name, schedule and zone still owes
// slots that passed. One with a new schedule begins now. Call it again with the same table when the application's
// environment has changed, which may turn jobs on and off.
func (s *Scheduler) SetTable(t Table) {
	if running := s.setTable(t); running { // else Run saves before anything starts
		s.saveNow()
	}
}

func (s *Scheduler) setTable(t Table) (running bool) {
	offs, host := make([]string, len(t.Jobs)), s.cfg.Host()
	for i := range t.Jobs {
		offs[i] = t.Jobs[i].OffReason(host) // may call Getenv: not under the lock
	}
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Now()
	old := s.entries
	s.entries = make(map[string]*entry, len(t.Jobs))
	s.order = make([]*entry, 0, len(t.Jobs))
	for i := range t.Jobs {
		j := &t.Jobs[i]
		e, unknown := old[j.Name], j.conditionUnknown(host)
		if e == nil {
			e = &entry{heapIndex: -1, job: j}
			s.restore(e, now)
		} else {
			if unknown {
				offs[i] = e.off
			}
			if offs[i] != "" {
				s.abandon(e, now, "off here: "+offs[i])
			}
			s.replace(e, j, now)
			delete(old, j.Name)
		}
		e.tableIndex = i
		s.setEnabled(e, offs[i], unknown, now)
		s.entries[j.Name] = e
		s.order = append(s.order, e)
	}
	for _, e := range old {
		s.remove(e, now)
	}
	heap.Init(&s.due) // the jobs' order may have changed
	s.askAgain()
	s.poke()
	return s.base != nil
}

// restore starts a job from its saved state, if there is one for this schedule.
func (s *Scheduler) restore(e *entry, now time.Time) {
	e.splay = splayFor(s.cfg.HostName, e.job)
	k, known := s.saved[e.job.Name]
	delete(s.saved, e.job.Name)
	if !k.Paused.IsZero() {
		e.paused = k.Paused.Unix()
	}
	if known && k.ScheduleKey == e.job.scheduleKey() && !ahead(e.job.Schedule, k.Last, now) {
		e.doneUntil = max(e.doneUntil, k.Last.Unix()) // of an adopted run
		if e.after(time.Unix(e.doneUntil, 0)); e.next <= now.Unix() {
			s.lateReason = notRunning
		}
		return
	}
	if known && k.ScheduleKey != e.job.scheduleKey() && k.ScheduleKey != "" && k.Paused.IsZero() {
		s.reportJob(Dropped, e, time.Time{}, 0, "its schedule is another than before the restart: what was due since "+
			k.Last.UTC().Format(time.RFC3339)+" is not caught up")
	}
	s.oweFrom(e, now)
}

// oweFrom makes t the time from which slots are owed.
func (s *Scheduler) oweFrom(e *entry, t time.Time) {
	e.doneUntil = t.Unix()
	e.after(t)
	s.markDirty(e)
}

// replace gives an entry its job of the new table.
func (s *Scheduler) replace(e *entry, j *Job, now time.Time) {
	removed, same := e.removed, e.job.scheduleKey() == j.scheduleKey()
	if !same {
		s.abandon(e, now, "the job's schedule has changed")
	}
	e.job, e.removed = j, false
	e.splay = splayFor(s.cfg.HostName, j)
	switch {
	case removed:
		s.restore(e, now) // its run may have been adopted before there was a table
	case !same:
		s.dropWaiting(e, "the job's schedule has changed")
		s.oweFrom(e, now)
	}
}

// setEnabled sets why a job is off, "" for on, and whether that may change once a condition is known.
func (s *Scheduler) setEnabled(e *entry, off string, unknown bool, now time.Time) {
	if e.off != "" && off == "" && !e.offForNow {
		s.oweFrom(e, now)
	}
	e.off, e.offForNow = off, unknown && (e.off == "" || e.offForNow)
	if off != "" {
		s.dropWaiting(e, "off here: "+off)
	}
	s.arm(e)
}

// remove takes a job out that is not in the table any more. Its run goes on.
func (s *Scheduler) remove(e *entry, now time.Time) {
	if !e.removed {
		s.abandon(e, now, "the job is not in the cron file any more")
		s.dropWaiting(e, "the job is not in the cron file any more")
	}
	e.removed = true
	s.arm(e)
	if e.idle() {
		s.forget(e)
		return
	}
	s.entries[e.job.Name] = e
}

// forget drops a removed job whose last run has ended. Its pause stays saved, and so does
// the state of a job that no table has had yet.
func (s *Scheduler) forget(e *entry) {
	delete(s.entries, e.job.Name)
	if _, unseen := s.saved[e.job.Name]; unseen {
		return
	}
	k := SavedJob{}
	if e.paused != 0 {
		k.Paused = time.Unix(e.paused, 0)
		s.saved[e.job.Name] = k
	}
	if s.cfg.Save != nil {
		s.dirty[e.job.Name] = k
	}
}

// Pause keeps a job from starting until Resume, also after a restart. Slots meanwhile are not owed. Its run goes on.
// It returns once Save has it; an error of Save's means that the job is paused until a restart.
func (s *Scheduler) Pause(name string) error {
	return s.change(name, func(e *entry, now time.Time) {
		if e.paused == 0 {
			s.abandon(e, now, "the job is paused")
			e.paused = now.Unix()
			s.dropWaiting(e, "the job is paused")
			s.markDirty(e)
		}
	})
}

// Resume ends a pause: the job's next slot is the first after now.
func (s *Scheduler) Resume(name string) error {
	return s.change(name, func(e *entry, now time.Time) {
		if e.paused != 0 {
			e.paused = 0
			s.oweFrom(e, now)
		}
	})
}

func (s *Scheduler) change(name string, do func(*entry, time.Time)) error {
	s.mu.Lock()
	e := s.entries[name]
	if e == nil || e.removed {
		s.unlock()
		return fmt.Errorf("%w: %q", ErrUnknownJob, name)
	}
	do(e, s.cfg.Now())
	s.arm(e)
	s.askAgain()
	s.poke()
	s.unlock()
	if err := s.saveNow(); err != nil {
		return fmt.Errorf("done, but a restart would undo it: %w", err)
	}
	return nil
}

// Trigger starts a job now, also during a hold or a pause and when the job is off. run is called like a [Runner]'s Run,
// in its place, and always once Trigger has returned nil. Trigger refuses with [ErrBusy] while the job runs (unless
// overlaps are allowed, or force says so), or when the host's limit or the job's lock would make it wait.
func (s *Scheduler) Trigger(name string, force bool, run func(context.Context, Firing) error) error {
	s.mu.Lock()
	defer s.unlock()
	e := s.entries[name]
	switch {
	case s.base == nil:
		return ErrNotRunning
	case e == nil || e.removed:
		return fmt.Errorf("%w: %q", ErrUnknownJob, name)
	case !e.idle() && e.job.Overlap != Allow && !force:
		return fmt.Errorf("%w: %q, since %s", ErrBusy, name, e.act.running[0].started.Format(time.RFC3339))
	}
	if why := s.blockedBy(e); why != "" {
		return fmt.Errorf("%w: it would wait for %s", ErrBusy, why)
	}
	s.launch(e, Firing{Due: s.cfg.Now(), Reason: Manual, Attempt: 1, Forced: force}, run)
	return nil
}

// Adopt takes over a run that an earlier process started and that is still in progress, so that overlap, limit and lock
// count it. wait is called like a [Runner]'s Run, not before Scheduler.Run, and returns when the run has ended. Call
// Adopt after SetTable, for the oldest run of a job first. The job of f need not be in the table. A [Manual] run has no
// slot.
func (s *Scheduler) Adopt(f Firing, wait func(context.Context, Firing) error) {
	s.mu.Lock()
	defer s.unlock()
	adopt := func() {
		e := s.entries[f.Job.Name]
		if e == nil {
			e = &entry{heapIndex: -1, job: &f.Job, removed: true, next: never}
			s.entries[f.Job.Name] = e
		}
		if f.Attempt = max(f.Attempt, 1); f.Reason != Manual {
			f.Reason = Adopted
		}
		s.launch(e, f, wait)
	}
	if s.base == nil {
		s.adopted = append(s.adopted, adopt)
		return
	}
	adopt()
}

// mayStart is the Firing's MayStart. A user's start is never kept.
func (s *Scheduler) mayStart(ctx context.Context, e *entry, r *run) (context.Context, error) {
	for ctx.Err() == nil && r.firing.Reason != Manual {
		may, askAgain := context.WithCancel(ctx)
		s.mu.Lock()
		held, err := s.held(), e.taken(r)
		if r.askAgain != nil {
			r.askAgain()
		}
		if r.askAgain = askAgain; held {
			r.waits = "the end of a hold"
		}
		s.unlock()
		if err != nil || !held {
			return may, err
		}
		<-may.Done()
	}
	return ctx, context.Cause(ctx)
}

// askAgain has each start that has not begun ask whether it may: what that depends on has changed.
func (s *Scheduler) askAgain() {
	for e := range s.busy {
		for _, r := range e.act.running {
			if r.askAgain != nil {
				r.askAgain()
			}
		}
	}
}

// taken says why a start that waits is taken from its Runner, as dropWaiting does it and startWaited: it is dropped, or
// starts anew.
func (e *entry) taken(r *run) error {
	why := ""
	switch changed := !e.job.equal(r.firing.Job); {
	case e.removed:
		why = "the job is not in the cron file any more"
	case e.paused != 0:
		why = "the job is paused"
	case e.off != "":
		why = "off here: " + e.off
	case e.job.scheduleKey() != r.firing.Job.scheduleKey():
		why = "the job's schedule has changed"
	case changed && r.firing.Reason == Adopted:
		why = "the job has changed"
	case changed:
		return ErrChanged
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDropped, why)
}

// takeBack deals with a start that its Runner has given back: it starts anew, with the job as it is now, or is
// reported. One that waits already stands for it.
func (s *Scheduler) takeBack(e *entry, f Firing, owedFrom int64, err error) {
	switch a := e.act; {
	case f.Reason == Retry && errors.Is(err, ErrDropped):
		s.giveUp(e, f, err.Error())
	case errors.Is(err, ErrDropped), !e.enabled():
		s.reportJob(Dropped, e, f.Due, 1+f.Coalesced, err.Error())
	case a.waiting != nil:
		a.waiting.Coalesced += 1 + f.Coalesced
	default:
		e.doneUntil = min(e.doneUntil, owedFrom)
		s.submit(e, f, s.cfg.Now())
	}
}

// dropWaiting cancels the job's waiting start and its planned retry.
func (s *Scheduler) dropWaiting(e *entry, why string) {
	if e.act == nil {
		return
	}
	if f := e.act.waiting; f != nil {
		e.act.waiting = nil // startWaiting takes it off the list
		s.goIdle(e)
		s.reportJob(Dropped, e, f.Due, 1+f.Coalesced, "the waiting start is dropped: "+why)
	}
	s.dropRetry(e, why)
}
