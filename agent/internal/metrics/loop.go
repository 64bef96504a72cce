package metrics

import (
	"context"
	"slices"
	"sync"
	"time"

	"beanstalk-agent/collectors"
)

// loop samples until its context is done. Its fields are set before run.
type loop struct {
	interval time.Duration
	gather   func(ctx context.Context, at time.Time) collectors.Batch
	sinks    []func(collectors.Batch) // called in turn; the batch is theirs only until they return

	mu   sync.Mutex
	last collectors.Batch
}

// lastLimit bounds the sample at the stop.
const lastLimit = time.Second

// run blocks until ctx is done. The first sample is taken at once, so that a new agent has figures; the last at the
// stop, so that no count since the one before is lost.
func (l *loop) run(ctx context.Context) {
	l.tick(ctx, time.Now().Truncate(l.interval))
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		now := time.Now()
		next := now.Truncate(l.interval).Add(l.interval)
		timer.Reset(next.Sub(now))
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLimit)
			defer cancel()
			l.tick(last, now.Truncate(l.interval))
			return
		case <-timer.C:
		}
		l.tick(ctx, next)
	}
}

func (l *loop) tick(ctx context.Context, at time.Time) {
	b := l.gather(ctx, at)
	for _, sink := range l.sinks {
		sink(b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last.At = b.At
	l.last.Samples = append(l.last.Samples[:0], b.Samples...)
	l.last.Results = append(l.last.Results[:0], b.Results...)
}

// newest returns a copy of the newest batch; its At is zero before the first.
func (l *loop) newest() collectors.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.last
	b.Samples, b.Results = slices.Clone(b.Samples), slices.Clone(b.Results)
	return b
}
