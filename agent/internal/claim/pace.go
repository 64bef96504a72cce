package claim

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// backoff is the pauses between requests.
type backoff struct{ failures int }

// next grows with failures; after a mere conflict it is short and random.
func (b *backoff) next(err error) time.Duration {
	if err == nil {
		return mathrand.N(firstPause)
	}
	d := min(lastPause, firstPause<<min(b.failures, 5))
	b.failures++
	return d/2 + mathrand.N(d/2)
}

func newNonce() string { return rand.Text() }

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
