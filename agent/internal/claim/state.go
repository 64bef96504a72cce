package claim

import (
	"maps"
	"slices"
	"time"
)

// Status counts claims since the process started.
type Status struct {
	Won       map[string]int `json:"won"` // by job
	Lost      int            `json:"lost"`
	Busy      int            `json:"busy"`
	Paused    int            `json:"paused"`
	Skipped   int            `json:"skipped"` // superseded
	Missed    int            `json:"missed"`  // neither won nor lost
	LastError string         `json:"last_error,omitempty"`
	Failing   bool           `json:"failing"` // the last claim was neither won nor lost
}

// Status returns the counts.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Won = maps.Clone(c.Won)
	return c
}

// count counts a claim's result, if it is of a job's slot, and logs when claims begin to fail and when they work again.
func (s *Store) count(job string, o Outcome, err error) error {
	if isLock(job) {
		return err
	}
	s.mu.Lock()
	was := s.counts.Failing
	s.counts.Failing = err != nil
	switch {
	case err != nil:
		s.counts.Missed++
		s.counts.LastError = err.Error()
	case o.State == Won:
		if len(s.counts.Won) >= maxJobs {
			clear(s.counts.Won)
		}
		s.counts.Won[job]++
	case o.State == Lost:
		s.counts.Lost++
	case o.State == Busy:
		s.counts.Busy++
	case o.State == Paused:
		s.counts.Paused++
	default:
		s.counts.Skipped++
	}
	s.mu.Unlock()
	switch {
	case err != nil && !was:
		s.logger.Warn("slots cannot be claimed", "job", job, "err", err)
	case err == nil && was:
		s.logger.Info("slots can be claimed again", "job", job)
	}
	return err
}

// jobState is this process's state of one job.
type jobState struct {
	last register         // as last written here, with its tag: valid only until another instance writes
	own  map[int64]string // nonce of each slot claimed here that has not ended, by Unix time in nanoseconds
	ends map[int64]end    // ends of runs of this instance that the register may lack, by slot
}

// end is how a run has ended that the register may list as in progress.
type end struct {
	nonce string // "": an earlier process of this instance has claimed it
	Result
}

// end adds e. No more are kept than a register could list.
func (j *jobState) end(slot time.Time, e end) {
	j.ends[slot.UnixNano()] = e
	for len(j.ends) > 2*keptRuns {
		delete(j.ends, slices.Min(slices.Collect(maps.Keys(j.ends))))
	}
}

// Names of jobs come from a file that may have others each time it is read. Beyond maxJobs all are forgotten, which
// costs a read of S3 each, as does a register beyond maxKnown, which is not kept.
const (
	maxJobs  = 20_000
	maxKnown = 1000
)

// job returns the state of a job. The caller holds mu.
func (s *Store) job(name string) *jobState {
	j := s.jobs[name]
	if j == nil {
		if len(s.jobs) >= maxJobs {
			clear(s.jobs)
			s.known = 0
		}
		j = &jobState{own: map[int64]string{}, ends: map[int64]end{}}
		s.jobs[name] = j
	}
	return j
}

// cached returns the register as this process wrote it last, if its newest run is ours: the last winner most likely
// wins again, and needs no read. If another instance wrote since, the tag does not match and S3 refuses the write. When
// the store's clock was heard long ago, there is none.
func (s *Store) cached(job string) register {
	if !s.s3.clock.fresh() {
		return register{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job(job).last
}

// keep makes r what cached returns, if it is of use and there is room. The caller holds mu.
func (s *Store) keep(j *jobState, r register) {
	if j.last.tag != "" {
		s.known--
	}
	j.last = register{}
	if r.tag != "" && len(r.Runs) > 0 && r.Runs[0].Owner == s.config.Owner && s.known < maxKnown {
		j.last = r
		s.known++
	}
}

// remember keeps the register as last read or written, and whether the slot is this process's own.
func (s *Store) remember(job string, slot time.Time, nonce string, r register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.job(job)
	s.keep(j, r)
	known := map[int64]bool{}
	for _, run := range r.Runs {
		known[run.Slot.UnixNano()] = true
		if run.Nonce == nonce && run.Slot.Equal(slot) {
			j.own[slot.UnixNano()] = nonce
		}
	}
	maps.DeleteFunc(j.own, func(slot int64, _ string) bool { return !known[slot] })
}

// nonce returns the nonce of a slot claimed by this process, or "".
func (s *Store) nonce(job string, slot time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job(job).own[slot.UnixNano()]
}

// Claimed reports whether this process, and no earlier one of the instance, has claimed a slot that has not ended.
func (s *Store) Claimed(job string, slot time.Time) bool { return s.nonce(job, slot) != "" }

// forget drops what is kept of a slot whose end is in its register, unless a further attempt at it has begun.
func (s *Store) forget(job string, slot time.Time, attempt int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, at := s.job(job), slot.UnixNano()
	if j.ends[at].Attempt <= attempt {
		delete(j.own, at)
		delete(j.ends, at)
	}
}

// abandon records a claim that may yet take effect and was not run.
func (s *Store) abandon(q ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	why := Result{Attempt: attemptNumber(q.Attempt), Outcome: "not run: the claim was left without an answer"}
	s.job(q.Job).end(q.Slot, end{q.nonce, why})
}

// enterEnds enters into r how runs of this instance have ended that it lists as in progress, or lost.
func (s *Store) enterEnds(job string, r *Register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.job(job)
	for i, run := range r.Runs {
		e, ok := j.ends[run.Slot.UnixNano()]
		own := run.Owner == s.config.Owner && (e.nonce == "" || e.nonce == run.Nonce) && run.Attempt <= e.Attempt
		if ok && own && (run.Outcome == "" || run.LostBy != "") {
			r.Runs[i].finish(e.Result, s.s3.clock.low())
		}
	}
}
