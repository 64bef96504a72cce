// Package sampling asks the collectors on every multiple of an interval.
//
// Contract: each batch has one timestamp, which is a multiple of the interval
// of the wall clock, so that the batches of all instances of a fleet fold into
// the same minutes. A tick that comes late is not made up for: figures of the
// past cannot be read any more.
package sampling

import (
	"context"
	"slices"
	"sync"
	"time"

	"beanstalk-agent/collectors"
)

// Loop samples until its context is done. Its fields are set before Run.
type Loop struct {
	Interval time.Duration
	Gather   func(ctx context.Context, at time.Time) collectors.Batch
	Sinks    []func(collectors.Batch) // called in turn; the batch is theirs only until they return

	mu   sync.Mutex
	last collectors.Batch
}

// lastLimit bounds the sample at the end.
const lastLimit = time.Second

// Run blocks until ctx is done. The first sample is taken at once, so that a
// person who has just started the agent sees figures; the last at the end, so that
// what was counted since the one before is not lost.
func (l *Loop) Run(ctx context.Context) error {
	l.tick(ctx, time.Now().Truncate(l.Interval))
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		now := time.Now()
		next := now.Truncate(l.Interval).Add(l.Interval)
		timer.Reset(next.Sub(now))
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLimit)
			defer cancel()
			l.tick(last, now.Truncate(l.Interval))
			return nil
		case <-timer.C:
		}
		l.tick(ctx, next)
	}
}

func (l *Loop) tick(ctx context.Context, at time.Time) {
	b := l.Gather(ctx, at)
	for _, sink := range l.Sinks {
		sink(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last.At = b.At
	l.last.Samples = append(l.last.Samples[:0], b.Samples...)
	l.last.Results = append(l.last.Results[:0], b.Results...)
}

// Last returns a copy of the newest batch; its At is zero before the first.
func (l *Loop) Last() collectors.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.last
	b.Samples, b.Results = slices.Clone(b.Samples), slices.Clone(b.Results)
	return b
}
