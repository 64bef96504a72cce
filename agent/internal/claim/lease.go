package claim

import (
	"context"
	"fmt"
	"time"
)

// Renewal is the answer to Renew.
type Renewal struct {
	LeaseUntil time.Duration // as Outcome.LeaseUntil
	ReplacedBy string        // the instance that asks for the run's end
}

// Renew lets the run of a slot that this instance has go on for a lease from now on, or until its limit. A process that
// finds a run of an earlier process of its instance renews it first. ErrNotRecorded: the slot was taken over, or
// another run of the job is in progress, or the register has it as ended: the run must end. A run that was claimed
// without a lease gets none, and nothing is written. It tries until ctx is done.
func (s *Store) Renew(ctx context.Context, job string, slot time.Time, grace time.Duration) (Renewal, error) {
	var run Run
	err := s.edit(ctx, job, func(r *Register) (bool, error) {
		i := s.mine(r, job, slot)
		if i < 0 {
			return false, ErrNotRecorded
		}
		run = r.Runs[i]
		low := s.s3.clock.low()
		if run.Outcome != "" && (run.LostBy == "" || len(r.Live(low)) > 0) {
			return false, fmt.Errorf("%w as in progress: %s", ErrNotRecorded, oneLine(run.Outcome, 100))
		}
		if run.Until.IsZero() {
			return false, nil
		}
		run.Untold = run.untoldOf()
		run.Outcome, run.Finished, run.LostBy = "", time.Time{}, ""
		run.renew(low, s.s3.clock.high(), grace)
		r.Runs[i] = run
		return true, nil
	})
	if err != nil {
		return Renewal{}, fmt.Errorf("renew the lease of %q of %s: %w", job, slot.UTC().Format(time.RFC3339), err)
	}
	return Renewal{s.leaseUntil(run, grace), run.ReplacedBy}, nil
}

// AskToEnd writes on the run of that nonce, if it is in progress, that this instance wants it ended. Its owner reads
// it.
func (s *Store) AskToEnd(ctx context.Context, job, nonce string) error {
	err := s.edit(ctx, job, func(r *Register) (bool, error) {
		for i, run := range r.Runs {
			if run.Nonce == nonce && run.live(s.s3.clock.low()) && run.ReplacedBy == "" {
				r.Runs[i].ReplacedBy = s.config.Owner
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("ask for the end of %q: %w", job, err)
	}
	return nil
}
