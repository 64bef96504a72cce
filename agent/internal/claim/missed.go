package claim

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// NoteMissed writes that a slot whose run was interrupted is not run again, so that no instance takes it over any more.
// It reports whether it has written that: of all instances, exactly one has, and reports it.
func (s *Store) NoteMissed(ctx context.Context, job string, slot time.Time) (noted bool, err error) {
	prefix := oneLine("missed, as "+s.config.Owner+" says: ", maxOutcome/2)
	tried := false
	err = s.edit(ctx, job, func(r *Register) (bool, error) {
		i := r.find(slot)
		noted = i >= 0 && tried && strings.HasPrefix(r.Runs[i].Outcome, prefix) // the answer was lost
		if i < 0 || !r.Runs[i].Interrupted() {
			return false, nil
		}
		r.Runs[i].Outcome = oneLine(prefix+r.Runs[i].Outcome, maxOutcome)
		noted, tried = true, true
		return true, nil
	})
	if err != nil {
		return false, fmt.Errorf("note that a slot of %q was missed: %w", job, err)
	}
	return noted, nil
}

// Interrupted reports whether the run has ended since its owner was, or its lease.
func (r Run) Interrupted() bool { return strings.HasPrefix(r.Outcome, Interrupted) }
