package claim

import (
	"context"
	"fmt"
	"time"
)

// SetPause pauses a job on every instance, or resumes it when p is nil. A job that is paused keeps who paused it first.
// Since is the store's time when p has none. It tries until ctx is done.
func (s *Store) SetPause(ctx context.Context, job string, p *Pause) error {
	err := s.edit(ctx, job, func(r *Register) (bool, error) {
		if (r.Paused == nil) == (p == nil) {
			return false, nil
		}
		if r.Paused = nil; p != nil {
			r.Paused = &Pause{oneLine(p.By, maxText-len("…")), p.Since}
			if p.Since.IsZero() {
				r.Paused.Since = s.s3.clock.low().Truncate(time.Second)
			}
		}
		return true, nil
	})
	if isUncertain(err) {
		err = fmt.Errorf("it may yet take effect: %w", err)
	}
	if err != nil {
		return fmt.Errorf("write whether %q is paused: %w", job, err)
	}
	return nil
}
