package cloudwatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"beanstalk-agent/collectors"
)

// Pauses of the delivery, each jittered by half: instances that failed together must not come back together.
const (
	pace        = time.Second      // between two batches of a backlog
	firstRetry  = time.Second      // doubles
	lastRetry   = time.Minute      // while CloudWatch cannot be reached
	deniedRetry = 5 * time.Minute  // while it says no: a person has to act
	lookAgain   = 10 * time.Second // at the wall clock, which may have been stepped
	spread      = 5 * time.Second  // of an instance's first attempt after the boundary, at most a tenth of the interval
)

// schedule is when Run does what. Boundaries are wall-clock times, pauses are not.
type schedule struct {
	boundary time.Time     // of the interval that is under way
	send     time.Time     // zero: nothing to send
	paused   bool          // send is the end of a pause, which a new batch does not shorten
	failures int           // in a row
	phase    time.Duration // of this instance
}

// Run cuts an interval at every boundary and delivers until ctx is done; then it cuts what is open, tries to send it
// for at most five seconds, and returns nil. What it could not send is on disk for the next Run.
func (p *Publisher) Run(ctx context.Context) error {
	p.open(ctx)
	for {
		wait := min(lookAgain, time.Until(p.next.boundary))
		if !p.next.send.IsZero() {
			wait = min(wait, time.Until(p.next.send))
		}
		if !sleep(ctx, wait) {
			p.flush(ctx)
			return nil
		}
		now := time.Now()
		if p.over(now) {
			p.cut(now, false)
		}
		if !p.next.send.IsZero() && !now.Before(p.next.send) {
			p.deliver(ctx, now)
		}
	}
}

func (p *Publisher) open(ctx context.Context) {
	now := time.Now()
	p.next = schedule{
		boundary: boundary(now, p.config.Interval),
		phase:    rand.N(min(spread, p.config.Interval/10)),
	}
	if p.config.Send == Off {
		p.spool = &spool{}
		p.enter(Local, "kept locally: sending is switched off (metrics.send)")
		return
	}
	s, err := openSpool(p.config.SpoolDir, p.config.SpoolLimit)
	if err != nil {
		p.logger.Warn("metrics are spooled in memory only", "err", err)
	}
	p.spool = s
	p.noteQueue()
	p.connect(ctx)
	if len(s.entries) > 0 {
		p.next.send = now.Add(p.next.phase)
	}
}

// over reports whether the interval under way has ended, or the clock has left it.
func (p *Publisher) over(now time.Time) bool {
	return !now.Before(p.next.boundary) || p.next.boundary.Sub(now) > p.config.Interval
}

func boundary(now time.Time, interval time.Duration) time.Time {
	return now.UTC().Truncate(interval).Add(interval)
}

// cut closes the intervals that are over, or all, and puts their datums into the spool.
func (p *Publisher) cut(now time.Time, all bool) {
	p.next.boundary = boundary(now, p.config.Interval)
	p.spool.settle()
	for _, b := range p.close(now, all) {
		p.keep(b)
	}
	p.noteQueue()
	switch {
	case len(p.spool.entries) == 0:
		p.rest()
	case !p.next.paused:
		p.next.send = now.Add(p.next.phase)
	}
}

// rest is called when nothing more is to be done for a while.
func (p *Publisher) rest() {
	if p.config.Published != nil {
		p.config.Published()
	}
}

// batch is the datums of one interval.
type batch struct {
	at     time.Time
	datums []Datum
}

// close takes the intervals that are over out of the fold, the agent's own counters with them.
func (p *Publisher) close(now time.Time, all bool) (out []batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := p.resolve()
	for _, w := range p.fold.take(now, all) {
		if w.samples > 0 {
			p.ownLocked(w)
			b := batch{w.start, datums(w, sets)}
			p.recent = Payload{p.config.Namespace, b.datums}
			if len(sets) == 0 {
				p.dropLocked("no dimension is known", uint64(len(w.order)))
			} else {
				out = append(out, b)
			}
		}
		p.fold.recycle(w)
	}
	return out
}

// ownLocked adds the publisher's own figures to w, those that are not zero: a series that is always zero is a series
// paid for. An alarm on them treats missing data as good.
func (p *Publisher) ownLocked(w *window) {
	own := func(name string, v uint64) {
		if v > 0 {
			p.fold.into(w, collectors.Sample{Name: name, Unit: collectors.Count, Value: float64(v)})
		}
	}
	c := &p.counts
	own("metrics_dropped", c.dropped-c.toldDropped)
	own("possible_duplicates", c.duplicates-c.toldDuplicates)
	own("metrics_spooled", uint64(p.queue.datums))
	c.toldDropped, c.toldDuplicates = c.dropped, c.duplicates
}

// keep spools one interval as records of one request each.
func (p *Publisher) keep(b batch) {
	if p.config.Send == Off {
		return
	}
	for _, part := range requests(b.datums) {
		rec, err := encodeRecord(p.config.Namespace, b.at, part)
		if err != nil {
			p.drop("cannot be encoded", len(part))
			continue
		}
		if p.api == nil && p.config.Send == Auto {
			p.spool.hold(b.at, len(part), rec)
			continue
		}
		before := p.spool.diskErr
		_, lost := p.spool.put(b.at, len(part), rec)
		if p.spool.diskErr != nil && before == nil {
			p.logger.Warn("metrics are spooled in memory", "err", p.spool.diskErr)
		}
		for _, e := range lost {
			p.drop("the spool is full", e.datums)
		}
	}
}

// requests cuts ds into parts that one request can carry each.
func requests(ds []Datum) (parts [][]Datum) {
	const room = maxBody * 9 / 10
	start, size := 0, 0
	for i := range ds {
		n := ds[i].size()
		if i > start && (i-start >= maxDatums || size+n > room) {
			parts = append(parts, ds[start:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(ds) {
		parts = append(parts, ds[start:])
	}
	return parts
}

// deliver makes one attempt and decides when the next is due.
func (p *Publisher) deliver(ctx context.Context, now time.Time) {
	p.next.send, p.next.paused = time.Time{}, false
	if p.api == nil && !p.connect(ctx) {
		p.pause(now, deniedRetry)
		p.rest()
		return
	}
	e := p.spool.pick(now)
	if e == nil {
		return
	}
	v := p.try(ctx, e, now)
	p.noteQueue()
	switch v {
	case delivered, invalid:
		p.next.failures = 0
		if p.spool.pick(now) != nil {
			p.pauseFor(now, pace)
			p.next.paused = false // a pace is not a pause: the present may go first
			return
		}
	case denied:
		p.pauseFor(now, deniedRetry)
	default:
		p.pause(now, lastRetry)
	}
	p.rest()
}

func (p *Publisher) pause(now time.Time, most time.Duration) {
	d := min(most, firstRetry<<min(p.next.failures, 10))
	p.next.failures++
	p.pauseFor(now, d)
}

func (p *Publisher) pauseFor(now time.Time, d time.Duration) {
	p.next.send, p.next.paused = now.Add(d/2+rand.N(d)), true
}

// try sends e once and does with it what the answer says.
func (p *Publisher) try(ctx context.Context, e *entry, now time.Time) verdict {
	rec, err := p.spool.load(e)
	if err == nil && e.at.Before(now.Add(-oldest)) {
		err = fmt.Errorf("timestamp %s is older than CloudWatch accepts", e.at.Format(time.RFC3339))
	}
	var namespace string
	var at time.Time
	var ds []Datum
	if err == nil {
		namespace, at, ds, err = decodeRecord(rec)
	}
	if err != nil {
		p.logger.Warn("spooled metrics set aside", "err", err)
		p.spool.remove(e)
		p.drop("unreadable or too old", e.datums)
		return invalid
	}
	e.tried = true
	before := e.unsure
	p.spool.mark(e, true)
	v, err := attempt(ctx, p.api, input(namespace, at, ds))
	switch v {
	case delivered:
		p.spool.remove(e)
		p.sent(len(ds), before, now)
	case invalid:
		p.spool.mark(e, before)
		p.isolate(e, namespace, at, ds, err)
	case unsure:
		p.enter(Waiting, sentence(v, namespace, err))
	case denied:
		p.spool.mark(e, before)
		p.enter(Denied, sentence(v, namespace, err))
	default:
		p.spool.mark(e, before)
		p.enter(Waiting, sentence(v, namespace, err))
	}
	return v
}

// isolate finds the datum that spoils a request: the batch is halved, and halved again, until it stands alone; then it
// is set aside. A process that dies between the steps sends a half twice, uncounted.
func (p *Publisher) isolate(e *entry, namespace string, at time.Time, ds []Datum, why error) {
	if len(ds) > 1 {
		for _, half := range [][]Datum{ds[:len(ds)/2], ds[len(ds)/2:]} {
			if rec, err := encodeRecord(namespace, at, half); err == nil {
				h, lost := p.spool.put(at, len(half), rec)
				p.spool.mark(h, e.unsure)
				for _, l := range lost {
					p.drop("the spool is full", l.datums)
				}
			}
		}
	} else {
		p.logger.Warn("metric set aside", "metric", ds[0].Name, "err", cause(why))
		p.drop("refused by CloudWatch", 1)
		p.tell(sentence(invalid, namespace, why))
	}
	p.spool.remove(e)
}

// connect makes the client, once it can be made. In Auto, not being able to is a state of the host and no fault.
func (p *Publisher) connect(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	c, err := p.config.Connect(ctx)
	if err == nil {
		p.api = sdk.NewFromConfig(c)
		p.enter(Waiting, "nothing has been sent yet")
		return true
	}
	if p.config.Send == Auto {
		p.enter(Local, fmt.Sprintf("kept locally: %v", err))
	} else {
		p.enter(Waiting, fmt.Sprintf("kept locally, not sent yet: %v", err))
	}
	return false
}

// flush is the end of Run: the open interval goes to disk, and out if that is quick.
func (p *Publisher) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	p.cut(time.Now(), true)
	for p.api != nil && ctx.Err() == nil {
		e := p.spool.pick(time.Now())
		if e == nil || e.tried {
			return
		}
		if v := p.try(ctx, e, time.Now()); v != delivered && v != invalid {
			return
		}
		p.noteQueue()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
