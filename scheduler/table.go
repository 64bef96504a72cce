package scheduler

import (
	"container/heap"
	"context"
	"fmt"
	"time"
)

// SetTable puts a table in force at once. Running jobs go on. A job that has kept its
// name, schedule and zone keeps its place in time: a slot that passed is still owed. One
// whose schedule is new begins now. Call it again with the same table when the
// application's environment has changed, which may turn jobs on and off.
func (s *Scheduler) SetTable(t Table) {
	if running := s.setTable(t); running { // else Run saves before anything starts
		s.saveNow()
	}
}

func (s *Scheduler) setTable(t Table) (running bool) {
	offs, here := make([]string, len(t.Jobs)), s.cfg.Host()
	for i := range t.Jobs {
		offs[i] = t.Jobs[i].offReason(here) // may call Getenv: not under the lock
	}
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Now()
	old := s.entries
	s.entries = make(map[string]*entry, len(t.Jobs))
	s.order = make([]*entry, 0, len(t.Jobs))
	for i := range t.Jobs {
		j := &t.Jobs[i]
		e, unsure := old[j.Name], j.conditionUnknown(here)
		if e == nil {
			e = &entry{place: -1, job: j}
			s.load(e, now)
		} else {
			if unsure {
				offs[i] = e.off
			}
			if offs[i] != "" {
				s.abandon(e, now, "off here: "+offs[i])
			}
			s.replace(e, j, now)
			delete(old, j.Name)
		}
		e.pos = i
		s.turn(e, offs[i], unsure, now)
		s.entries[j.Name] = e
		s.order = append(s.order, e)
	}
	for _, e := range old {
		s.remove(e, now)
	}
	heap.Init(&s.due) // the jobs' order may have changed
	s.poke()
	return s.base != nil
}

// load begins a job, where its earlier life left it if that is known.
func (s *Scheduler) load(e *entry, now time.Time) {
	e.splay = splayFor(s.cfg.HostName, e.job)
	k, known := s.kept[e.job.Name]
	delete(s.kept, e.job.Name)
	if !k.Paused.IsZero() {
		e.paused = k.Paused.Unix()
	}
	if known && k.ScheduleKey == e.job.scheduleKey() && !ahead(e.job.Schedule, k.Last, now) {
		e.settled = max(e.settled, k.Last.Unix()) // of an adopted run
		if e.after(time.Unix(e.settled, 0)); e.next <= now.Unix() {
			s.late = notRunning
		}
		return
	}
	if known && k.ScheduleKey != e.job.scheduleKey() && k.ScheduleKey != "" && k.Paused.IsZero() {
		s.tell(Event{Kind: Dropped, Job: e.job.Name, Text: "its schedule is another than before the restart: what was due since " + k.Last.UTC().Format(time.RFC3339) + " is not caught up"})
	}
	s.beginAt(e, now)
}

// beginAt makes t the time from which slots are owed.
func (s *Scheduler) beginAt(e *entry, t time.Time) {
	e.settled = t.Unix()
	e.after(t)
	s.keep(e)
}

// replace gives an entry its job of the new table.
func (s *Scheduler) replace(e *entry, j *Job, now time.Time) {
	gone, same := e.gone, e.job.scheduleKey() == j.scheduleKey()
	if !same {
		s.abandon(e, now, "the job's schedule has changed")
	}
	e.job, e.gone = j, false
	e.splay = splayFor(s.cfg.HostName, j)
	switch {
	case gone:
		s.load(e, now) // in case that it was never seen here: a run was adopted before there was a table
	case !same:
		s.dropWaiting(e, "the job's schedule has changed")
		s.beginAt(e, now)
	}
}

// turn switches a job on or off here, perhaps not for good.
func (s *Scheduler) turn(e *entry, off string, unsure bool, now time.Time) {
	if e.off != "" && off == "" && !e.maybe {
		s.beginAt(e, now)
	}
	e.off, e.maybe = off, unsure && (e.off == "" || e.maybe)
	if off != "" {
		s.dropWaiting(e, "off here: "+off)
	}
	s.arm(e)
}

// remove takes a job out that is not in the table any more. What runs goes on.
func (s *Scheduler) remove(e *entry, now time.Time) {
	if !e.gone {
		s.abandon(e, now, "the job is not in the cron file any more")
		s.dropWaiting(e, "the job is not in the cron file any more")
	}
	e.gone = true
	s.arm(e)
	if e.idle() {
		s.forget(e)
		return
	}
	s.entries[e.job.Name] = e
}

// forget drops a job whose last run has ended. A pause outlives it, and so does what is
// known of a job that no table has had yet.
func (s *Scheduler) forget(e *entry) {
	delete(s.entries, e.job.Name)
	if _, unseen := s.kept[e.job.Name]; unseen {
		return
	}
	k := SavedJob{}
	if e.paused != 0 {
		k.Paused = time.Unix(e.paused, 0)
		s.kept[e.job.Name] = k
	}
	if s.cfg.Save != nil {
		s.dirty[e.job.Name] = k
	}
}

// Pause keeps a job from starting until Resume, also in the next life. Slots meanwhile
// are not owed. What runs goes on.
func (s *Scheduler) Pause(name string) error {
	return s.change(name, func(e *entry, now time.Time) {
		if e.paused == 0 {
			s.abandon(e, now, "the job is paused")
			e.paused = now.Unix()
			s.dropWaiting(e, "the job is paused")
			s.keep(e)
		}
	})
}

// Resume ends a pause: the job's next slot is the first after now.
func (s *Scheduler) Resume(name string) error {
	return s.change(name, func(e *entry, now time.Time) {
		if e.paused != 0 {
			e.paused = 0
			s.beginAt(e, now)
		}
	})
}

func (s *Scheduler) change(name string, do func(*entry, time.Time)) error {
	s.mu.Lock()
	defer s.unlock()
	e := s.entries[name]
	if e == nil || e.gone {
		return fmt.Errorf("%w: %q", ErrUnknownJob, name)
	}
	do(e, s.cfg.Now())
	s.arm(e)
	s.poke()
	return nil
}

// Trigger runs a job now and gives the end of that run. A hold, a pause and being off
// here do not stop it; a run that goes on (unless overlaps are allowed), the host's limit
// and the job's lock do, with [ErrBusy] or a reason. When ctx ends, Trigger returns and
// the run goes on.
func (s *Scheduler) Trigger(ctx context.Context, name string) error {
	r, err := s.trigger(name)
	if err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Scheduler) trigger(name string) (*run, error) {
	s.mu.Lock()
	defer s.unlock()
	e := s.entries[name]
	switch {
	case s.base == nil:
		return nil, ErrNotRunning
	case e == nil || e.gone:
		return nil, fmt.Errorf("%w: %q", ErrUnknownJob, name)
	case !e.idle() && e.job.Overlap != Allow:
		return nil, fmt.Errorf("%w: %q, since %s", ErrBusy, name, e.act.running[0].started.Format(time.RFC3339))
	}
	if why := s.full(e); why != "" {
		return nil, fmt.Errorf("%w: it would wait for %s", ErrBusy, why)
	}
	now := s.cfg.Now()
	return s.start(e, Firing{Due: now, Reason: Manual, Attempt: 1}, s.cfg.Runner.Run), nil
}

// Adopt takes over a run that an earlier process started and that still goes on, so that
// overlap, limit and lock count it: wait returns when it has ended, and is called as a
// [Runner]'s Run. To be called after SetTable, of a job's runs the oldest first; before Run,
// wait is called once Run begins. The job of f may be one that the table has not, and its
// reason [Manual]: such a run is nobody's slot.
func (s *Scheduler) Adopt(f Firing, wait func(context.Context, Firing) error) {
	s.mu.Lock()
	defer s.unlock()
	adopt := func() {
		e := s.entries[f.Job.Name]
		if e == nil {
			e = &entry{place: -1, job: &f.Job, gone: true, next: never}
			s.entries[f.Job.Name] = e
		}
		if f.Attempt = max(f.Attempt, 1); f.Reason != Manual {
			f.Reason = Adopted
		}
		s.start(e, f, wait)
	}
	if s.base == nil {
		s.adopted = append(s.adopted, adopt)
		return
	}
	adopt()
}
