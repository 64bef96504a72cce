package claim

import (
	"context"
	"time"
)

// Pauses between two looks at a job that is Busy.
const (
	firstLook = time.Second
	lastLook  = 15 * time.Second
)

// ClaimWhenFree claims a slot as Claim does, and asks again for as long as it is Busy, until ctx is done: it is claimed
// soon after the run in progress has finished, or its lease has passed. busy, if not nil, is called with each run that
// is in the way, once.
func (s *Store) ClaimWhenFree(ctx context.Context, q Request, busy func(Run)) (Outcome, error) {
	by := ""
	for look := firstLook; ; look = min(2*look, lastLook) {
		o, err := s.claim(ctx, ask{Request: q, again: by != ""})
		if err != nil || o.State != Busy {
			return o, s.count(q.Job, o, err)
		}
		if busy != nil && o.By.Nonce != by {
			busy(o.By)
		}
		by = o.By.Nonce
		if !pause(ctx, min(look, o.Again)) {
			return Outcome{}, context.Cause(ctx)
		}
	}
}
