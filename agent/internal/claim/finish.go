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

// End is how the run of a slot has ended.
type End struct {
	Slot time.Time
	Result
}

// Finish records how the run of a slot that this instance claimed has ended. An earlier process of this instance may
// have claimed it. It replaces what another instance wrote of its loss, unless that has taken the slot over:
// ErrNotRecorded. It tries until ctx is done.
func (s *Store) Finish(ctx context.Context, job string, slot time.Time, result Result) error {
	return s.FinishAll(ctx, job, []End{{slot, result}})
}

// FinishAll is Finish for several slots of a job, in one write. ErrNotRecorded is that none of them could be.
func (s *Store) FinishAll(ctx context.Context, job string, ends []End) error {
	for _, e := range ends {
		s.Ended(job, e.Slot, e.Result)
	}
	err := s.edit(ctx, job, func(r *Register) (write bool, err error) {
		err = ErrNotRecorded
		for _, e := range ends {
			i, result := s.mine(r, job, e.Slot), e.clipped()
			if i < 0 {
				continue
			}
			err = nil
			switch {
			case r.Runs[i].Attempt > result.Attempt:
			case r.Runs[i].Outcome == result.Outcome, r.Runs[i].isMissed() && r.Runs[i].Attempt == result.Attempt:
				// By an earlier try of ours, whose response was lost. What is missed was there as interrupted.
			default:
				r.Runs[i].finish(result, s.s3.clock.low())
				write = true
			}
		}
		return write, err
	})
	if err != nil {
		return fmt.Errorf("record the end of %q of %s: %w", job, ends[0].Slot.UTC().Format(time.RFC3339), err)
	}
	for _, e := range ends {
		s.forget(job, e.Slot, attemptNumber(e.Attempt))
	}
	return nil
}

func (r *Run) finish(result Result, now time.Time) {
	r.Untold = r.untoldOf()
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
