package claim

import (
	"maps"
	"time"
)

// Status counts claims since the process started.
type Status struct {
	Won       map[string]int `json:"won"` // by job
	Lost      int            `json:"lost"`
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

// count counts a claim's result, and logs when claims begin to fail and when they work again.
func (s *Store) count(job string, o Outcome, err error) error {
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
		j = &jobState{own: map[int64]string{}, abandoned: map[string]string{}}
		s.jobs[name] = j
	}
	return j
}

// cached returns the register as this process wrote it last, if its newest run is ours: the last winner most likely
// wins again, and needs no read. If another instance wrote since, the tag does not match and S3 refuses the write.
func (s *Store) cached(job string) register {
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
		known[run.Slot.Unix()] = true
		if run.Nonce == nonce {
			j.own[slot.Unix()] = nonce
		}
	}
	maps.DeleteFunc(j.own, func(slot int64, _ string) bool { return !known[slot] })
}

// nonce returns the nonce of a slot claimed by this process, or "".
func (s *Store) nonce(job string, slot time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job(job).own[slot.Unix()]
}

func (s *Store) forget(job string, slot time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.job(job).own, slot.Unix())
}

// abandon records a claim that may yet take effect and was not run, for closeAbandoned.
func (s *Store) abandon(job, nonce string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.job(job).abandoned[nonce] = "not run: the claim was left without an answer"
}

// closeAbandoned enters the end of abandoned claims into r.
func (s *Store) closeAbandoned(job string, r *register) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range r.Runs {
		if why := s.job(job).abandoned[r.Runs[i].Nonce]; why != "" && r.Runs[i].Outcome == "" {
			r.Runs[i].Outcome, r.Runs[i].Finished = why, time.Now().UTC()
		}
	}
}
