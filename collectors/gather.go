package collectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"
)

// ErrLimit is the cause of the context that a collector sees when its time is
// over, and the Result of a collector that has not answered by then.
var ErrLimit = errors.New("time limit passed")

var errEnded = errors.New("the collector ended its goroutine")

// PanicError is the Result of a collector that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Gatherer asks its collectors, each in a goroutine of its own and under one time limit, so that a stuck one costs only
// its own samples. A collector that is still stuck at the next Gather is not asked again, so stuck ones do not pile up;
// it counts as failed until it returns. Its samples are then part of the next batch.
//
// Beside the collectors' samples a batch holds, for each of them, collector_duration and collector_ok (1 or 0; none for
// ErrNoData): silence is visible.
//
// Methods must not be called at the same time.
type Gatherer struct {
	limit time.Duration
	slots []slot
	done  chan int    // buffered for every slot: a late answer never blocks
	timer *time.Timer // reused; stopped between calls

	parent context.Context // what ctx was made from
	ctx    context.Context // handed to the collectors, reused until it is cancelled
	cancel context.CancelCauseFunc

	late    []Sample // for the next batch
	samples []Sample
	results []Result
}

// slot is one collector and its goroutine.
type slot struct {
	c      Collector
	name   string
	label  []Label
	run    func()          // made once: `go` on a kept func allocates nothing
	ctx    context.Context // set before run
	busy   bool            // run was started and has not reported on done
	asked  bool            // part of the Gather at hand
	answer                 // run's own while busy
}

type answer struct {
	samples []Sample
	took    time.Duration
	err     error
}

// NewGatherer returns a Gatherer of cs that gives each of them limit.
func NewGatherer(limit time.Duration, cs ...Collector) *Gatherer {
	g := &Gatherer{limit: limit, slots: make([]slot, len(cs)), done: make(chan int, len(cs))}
	g.timer = time.NewTimer(limit)
	g.timer.Stop()
	for i, c := range cs {
		s := &g.slots[i]
		s.c, s.name = c, c.Name()
		s.label = []Label{{"collector", s.name}}
		s.run = func() {
			defer func() { g.done <- i }() // whatever becomes of the call
			s.ask()
		}
	}
	return g
}

// Gather asks the collectors once. At is the batch's timestamp, whatever the clock says. The batch is the Gatherer's
// until the next call: Clone it to keep it. It returns when all have answered, after the time limit, or when ctx ends.
func (g *Gatherer) Gather(ctx context.Context, at time.Time) Batch {
	g.reapLate()
	g.start(g.context(ctx))
	g.timer.Reset(g.limit)
	defer g.timer.Stop()
	for pending := g.pending(); pending > 0; {
		select {
		case i := <-g.done:
			if g.slots[i].asked {
				g.slots[i].busy = false
				pending--
			} else {
				g.cameLate(i)
			}
		case <-g.timer.C:
			g.cancel(ErrLimit)
			return g.batch(at, fmt.Errorf("%w: no answer within %v", ErrLimit, g.limit))
		case <-g.ctx.Done():
			return g.batch(at, context.Cause(g.ctx))
		}
	}
	return g.batch(at, nil)
}

// Close ends the context of collectors that are still stuck, waits for them no longer than the time limit, and closes
// every collector that can be closed. A collector that stays stuck is named in the error and left as it is.
func (g *Gatherer) Close() error {
	if g.cancel != nil {
		g.cancel(context.Canceled)
	}
	g.timer.Reset(g.limit)
	defer g.timer.Stop()
	for stuck := true; stuck && g.anyBusy(); {
		select {
		case i := <-g.done:
			g.slots[i].busy = false
		case <-g.timer.C:
			stuck = false
		}
	}
	var errs []error
	for i := range g.slots {
		s := &g.slots[i]
		if s.busy {
			errs = append(errs, fmt.Errorf("close collector %q: it is stuck", s.name))
		} else if c, ok := s.c.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// context returns the context of this Gather: the last one, unless it was cancelled or the caller's is another.
func (g *Gatherer) context(parent context.Context) context.Context {
	if g.ctx == nil || g.parent != parent || g.ctx.Err() != nil {
		if g.cancel != nil {
			g.cancel(nil)
		}
		g.parent = parent
		g.ctx, g.cancel = context.WithCancelCause(parent)
	}
	return g.ctx
}

// reapLate notes the collectors that answered an earlier Gather too late.
func (g *Gatherer) reapLate() {
	for {
		select {
		case i := <-g.done:
			g.cameLate(i)
		default:
			return
		}
	}
}

// cameLate keeps the samples of a collector that answered after its own Gather:
// one may be a count, which is reported once.
func (g *Gatherer) cameLate(i int) {
	g.slots[i].busy = false
	g.late = append(g.late, g.slots[i].samples...)
}

func (g *Gatherer) start(ctx context.Context) {
	for i := range g.slots {
		s := &g.slots[i]
		s.asked = !s.busy
		if s.asked {
			s.busy, s.ctx = true, ctx
			go s.run()
		}
	}
}

func (g *Gatherer) pending() (n int) {
	for i := range g.slots {
		if g.slots[i].asked {
			n++
		}
	}
	return n
}

func (g *Gatherer) anyBusy() bool {
	for i := range g.slots {
		if g.slots[i].busy {
			return true
		}
	}
	return false
}

// batch puts the answers together; late is the error of collectors without one.
func (g *Gatherer) batch(at time.Time, late error) Batch {
	g.samples, g.results = append(g.samples[:0], g.late...), g.results[:0]
	g.late = g.late[:0]
	for i := range g.slots {
		s := &g.slots[i]
		r := Result{Collector: s.name}
		switch {
		case !s.asked:
			r.Err = fmt.Errorf("%w: still busy with an earlier call", ErrLimit)
		case s.busy:
			r.Took, r.Err = g.limit, late
		default:
			r.Took, r.Err = s.took, s.err
			g.samples = append(g.samples, s.samples...)
		}
		g.results = append(g.results, r)
		g.health(s, r)
	}
	return Batch{At: at, Samples: g.samples, Results: g.results}
}

func (g *Gatherer) health(s *slot, r Result) {
	g.samples = append(g.samples, Sample{"collector_duration", Seconds, r.Took.Seconds(), s.label})
	if errors.Is(r.Err, ErrNoData) {
		return
	}
	ok := Sample{"collector_ok", None, 1, s.label}
	if r.Err != nil {
		ok.Value = 0
	}
	g.samples = append(g.samples, ok)
}

// ask calls the collector; a panic, or a goroutine ended from within, is an error.
func (s *slot) ask() {
	began := time.Now()
	s.answer = answer{err: errEnded}
	defer func() {
		if v := recover(); v != nil {
			s.answer = answer{err: &PanicError{v, debug.Stack()}}
		}
		s.took = time.Since(began)
	}()
	s.samples, s.err = s.c.Collect(s.ctx)
}
