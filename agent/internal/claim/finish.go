package claim

import (
	"context"
	"fmt"
	"time"
)

// Ended has the next claim of this process know, and write, how a run of this instance has ended, before Finish has. It
// does not use the network.
func (s *Store) Ended(job string, slot time.Time, result Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.job(job)
	j.end(slot, end{j.own[slot.UnixNano()], result.clipped()})
}

// Finish records how the run of a slot that this instance claimed has ended. An earlier process of this instance may
// have claimed it. It replaces what another instance wrote of its loss, unless that has taken the slot over:
// ErrNotRecorded. It tries until ctx is done.
func (s *Store) Finish(ctx context.Context, job string, slot time.Time, result Result) error {
	s.Ended(job, slot, result)
	result = result.clipped()
	err := s.edit(ctx, job, func(r *Register) (bool, error) {
		i := s.mine(r, job, slot)
		switch {
		case i < 0:
			return false, ErrNotRecorded
		case r.Runs[i].Attempt > result.Attempt:
			return false, nil
		case r.Runs[i].Outcome == result.Outcome: // by an earlier try of ours, whose response was lost
			return false, nil
		}
		r.Runs[i].finish(result, s.s3.clock.low())
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("record the end of %q of %s: %w", job, slot.UTC().Format(time.RFC3339), err)
	}
	s.forget(job, slot, result.Attempt)
	return nil
}

func (r *Run) finish(result Result, now time.Time) {
	r.Outcome, r.Output, r.Finished, r.LostBy = result.Outcome, result.Output, stamp(now), ""
}

// Read returns a job's register, empty before the first claim. One that lists runs of the future comes with an error.
func (s *Store) Read(ctx context.Context, job string) (Register, error) {
	r, err := s.s3.get(ctx, job)
	if err != nil {
		return Register{}, fmt.Errorf("read who ran %q: %w", job, err)
	}
	return r.Register, s.s3.believe(r)
}

// Now is the store's time: one that its clock has reached, by its last response.
func (s *Store) Now() time.Time { return s.s3.clock.low() }
