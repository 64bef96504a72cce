package claim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Finish records how the run of a slot that this instance claimed has ended: a few words such as "exit 0", which users
// of every instance see, so never output of the command. An earlier process of this instance may have claimed it. A
// further attempt at the slot replaces the outcome of the one before. It tries until ctx is done.
func (s *Store) Finish(ctx context.Context, job string, slot time.Time, outcome string) error {
	a := attempt{store: s, job: job, slot: slot.UTC().Truncate(time.Second), register: s.cached(job)}
	a.nonce = s.nonce(job, a.slot)
	outcome = strings.ToValidUTF8(outcome[:min(len(outcome), maxOutcome)], "")
	for {
		done, err := a.finish(ctx, outcome)
		if err == nil && done {
			s.forget(job, a.slot)
			return nil
		}
		if isFinal(err) || errors.Is(err, ErrNotRecorded) {
			return fmt.Errorf("record the end of %q of %s: %w", job, a.slot.Format(time.RFC3339), err)
		}
		if !pause(ctx, a.pause(err)) {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
			return fmt.Errorf("record the end of %q of %s: %w", job, a.slot.Format(time.RFC3339), err)
		}
	}
}

// finish tries once. Neither done nor an error means that another instance wrote.
func (a *attempt) finish(ctx context.Context, outcome string) (done bool, err error) {
	s := a.store
	if a.register.tag == "" {
		if a.register, err = s.s3.get(ctx, a.job); err != nil {
			return false, err
		}
	}
	next := a.register
	next.Runs = slices.Clone(next.Runs)
	i := slices.IndexFunc(next.Runs, func(r Run) bool {
		return r.Slot.Equal(a.slot) && (r.Nonce == a.nonce || a.nonce == "" && r.Owner == s.config.Owner)
	})
	switch {
	case i < 0:
		return false, ErrNotRecorded
	case next.Runs[i].Outcome == outcome: // by an earlier try of ours, whose response was lost
		return true, nil
	}
	next.Runs[i].Outcome, next.Runs[i].Finished = outcome, time.Now().UTC()
	a.register = register{}
	tag, err := s.s3.put(ctx, next)
	if isConflict(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	next.tag = tag
	s.remember(a.job, a.slot, a.nonce, next)
	return true, nil
}

// Read returns a job's register, empty before the first claim. One that lists runs of the future comes with an error.
func (s *Store) Read(ctx context.Context, job string) (Register, error) {
	r, err := s.s3.get(ctx, job)
	if err != nil {
		return Register{}, fmt.Errorf("read who ran %q: %w", job, err)
	}
	return r.Register, s.s3.believe(r)
}
