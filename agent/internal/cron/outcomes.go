package cron

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
)

const (
	// For writing one. Until its lease and grace have passed a run counts as in progress, and then as lost: one that
	// has succeeded would be reported, or run again.
	outcomeLimit   = 3*claim.RenewEvery + runs.MaxGrace + time.Minute
	drainLimit     = 3 * time.Second // for all that wait when the agent stops
	outcomeWriters = 8
	maxOutcomes    = 16 // of one job: an older slot is no longer in its register
)

// outcome is how a slot's run ended.
type outcome struct {
	job  string
	slot time.Time
	claim.Result
	told   bool                                       // that what was to be reported has been, in place of an end
	others []claim.End                                // of the job, that are written with it
	store  *groupStore                                // where it was claimed; nil: not known, and perhaps nowhere
	open   func(context.Context) (*groupStore, error) // that, in place of store
}

// outcomes writes how runs ended into the registers, so that no run waits for S3: a job that waited could not start its
// next slot. The outcomes of one job are written one after the other.
type outcomes struct {
	write func(context.Context, outcome)
	log   *slog.Logger

	ctx     context.Context // of all writes
	cancel  context.CancelFunc
	room    chan struct{}
	writers sync.WaitGroup

	mu      sync.Mutex
	waiting map[string][]outcome // by job; each job in it has a writer
	closed  bool
	lost    int
}

func newOutcomes(write func(context.Context, outcome), log *slog.Logger) *outcomes {
	q := &outcomes{write: write, log: log, room: make(chan struct{}, outcomeWriters), waiting: map[string][]outcome{}}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	return q
}

// add has o written soon. It does not block.
func (q *outcomes) add(o outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.lost++
		return
	}
	list, writing := q.waiting[o.job]
	if n := len(list); n > 0 && list[n-1].slot.Equal(o.slot) {
		list = list[:n-1] // an attempt before this one
	}
	if len(list) == maxOutcomes {
		q.log.Warn("the end of a run is not in its register: others of the job wait", "job", o.job, "due", list[0].slot)
		list = list[1:]
	}
	q.waiting[o.job] = append(list, o)
	if !writing {
		q.writers.Go(func() { q.writeAll(o.job) })
	}
}

// writeAll writes a job's outcomes until none waits.
func (q *outcomes) writeAll(job string) {
	q.room <- struct{}{}
	defer func() { <-q.room }()
	for {
		o, ok := q.next(job)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(q.ctx, outcomeLimit)
		q.write(ctx, o)
		cancel()
	}
}

func (q *outcomes) next(job string) (o outcome, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.waiting[job]
	if len(list) == 0 || q.ctx.Err() != nil {
		q.lost += len(list)
		delete(q.waiting, job)
		return o, false
	}
	q.waiting[job] = list[1:]
	return list[0], true
}

// close takes no more, waits until all are written, for limit at most, and ends the writers.
func (q *outcomes) close(limit time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	timer := time.AfterFunc(limit, q.cancel)
	defer timer.Stop()
	q.writers.Wait()
	q.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost > 0 {
		q.log.Warn("ends of runs are not in their registers: the next agent process notes them", "count", q.lost)
	}
}
