package claim

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// NoteLost writes the loss of each run whose owner let its lease pass, as the next claim would, for a job whose next
// slot is far. Of what it, or an earlier call of this process, has written it returns what has not been: the caller
// reports that, and says so: Told. Again is when the first run that is in progress can be lost, or another's report is
// overdue, from now; 0: there is none.
func (s *Store) NoteLost(ctx context.Context, job string) (lost, missed []Run, again time.Duration, err error) {
	var after Register
	err = s.edit(ctx, job, func(r *Register) (bool, error) {
		s.enterEnds(job, r)
		low := s.s3.clock.low()
		write := r.noteLost(low, s.mark)
		after, again = *r, r.nextLook(low, s.mark)
		return write, nil
	})
	if err != nil {
		return nil, nil, 0, fmt.Errorf("look for lost runs of %q: %w", job, err)
	}
	lost, missed = s.owed(after, time.Time{})
	return lost, missed, again, nil
}

// nextLook is when the first run can be lost, or another process's report be overdue; 0: never.
func (r *Register) nextLook(now time.Time, mark string) (next time.Duration) {
	first := func(d time.Duration) {
		if next == 0 || d < next {
			next = d
		}
	}
	for _, run := range r.Runs {
		if run.live(now) {
			first(until(run, now))
		}
		if run.Untold != nil && run.Untold.By != mark {
			first(run.Untold.left(now) + time.Second)
		}
	}
	return next
}

// NoteMissed writes that a slot whose run was interrupted is not run again, so that no instance takes it over any more.
// It reports whether the caller is to report it, and then to say so: Told. Of all instances one is.
func (s *Store) NoteMissed(ctx context.Context, job string, slot time.Time) (noted bool, err error) {
	var after Register
	err = s.edit(ctx, job, func(r *Register) (write bool, err error) {
		if i := r.find(slot); i >= 0 && r.Runs[i].Interrupted() {
			r.Runs[i].miss(s.config.Owner, s.mark, s.s3.clock.low())
			write = true
		}
		after = *r
		return write, nil
	})
	if err != nil {
		return false, fmt.Errorf("note that a slot of %q was missed: %w", job, err)
	}
	_, missed := s.owed(after, slot)
	return len(missed) > 0, nil
}

// Told takes away what this process has reported of a job's runs, so that no other reports it. It tries until ctx is
// done.
func (s *Store) Told(ctx context.Context, job string) error {
	err := s.edit(ctx, job, func(r *Register) (write bool, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, run := range r.Runs {
			if s.given[s.report(run)] {
				r.Runs[i].Untold, write = nil, true
			}
		}
		return write, nil
	})
	if err != nil {
		return fmt.Errorf("note what has been reported of %q: %w", job, err)
	}
	return nil
}

// owed returns what this process is to report by a register that is in the store, of one slot if it is not zero: each
// thing once, also where the answer to its write was lost and the register has been read again.
func (s *Store) owed(r Register, slot time.Time) (lost, missed []Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, run := range r.Runs {
		id := s.report(run)
		if id == "" || s.given[id] || !slot.IsZero() && !run.Slot.Equal(slot) {
			continue
		}
		if len(s.given) >= maxJobs {
			clear(s.given)
		}
		s.given[id] = true
		switch {
		case run.isMissed():
			_, run.Outcome, _ = strings.Cut(run.Outcome, says)
			missed = append(missed, run)
		case run.LostBy != "":
			lost = append(lost, run)
		case run.TakenFrom != "":
			run.Owner = run.TakenFrom
			run.Outcome = "lost: no word from " + oneLine(run.Owner, 100)
			lost = append(lost, run)
		}
	}
	return lost, missed
}

// report identifies what this process is to report of a run; "" where it is nothing.
func (s *Store) report(run Run) string {
	if run.Untold == nil || run.Untold.By != s.mark {
		return ""
	}
	return run.Nonce + run.Untold.Since.Format(time.RFC3339Nano)
}
