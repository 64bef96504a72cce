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
	tried := false
	err = s.edit(ctx, job, func(r *Register) (bool, error) {
		i := r.find(slot)
		noted = i >= 0 && tried && strings.HasPrefix(r.Runs[i].Outcome, missedBy(s.config.Owner)) // the answer was lost
		if i < 0 || !r.Runs[i].Interrupted() {
			return false, nil
		}
		r.Runs[i].miss(s.config.Owner)
		noted, tried = true, true
		return true, nil
	})
	if err != nil {
		return false, fmt.Errorf("note that a slot of %q was missed: %w", job, err)
	}
	return noted, nil
}
