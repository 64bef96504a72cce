package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
)

// Pauses of the delivery. Each has a jitter of half its length: instances that failed together must not retry together.
const (
	defaultPace = time.Second      // between two batches of a backlog
	firstRetry  = time.Second      // doubles
	lastRetry   = time.Minute      // while CloudWatch cannot be reached
	deniedRetry = 5 * time.Minute  // while it denies access: an operator has to act
	clockCheck  = 10 * time.Second // between two looks at the wall clock, which may be stepped
	maxOffset   = 5 * time.Second  // of an instance's first attempt after the boundary; at most a tenth of the interval
)

// schedule is when Run does what. Boundaries are wall-clock times, pauses are not.
type schedule struct {
	boundary time.Time     // end of the open interval
	send     time.Time     // zero: nothing to send
	paused   bool          // send ends a pause, which a new batch does not shorten
	failures int           // in a row
	offset   time.Duration // of this instance, after the boundary
}

// Run closes an interval at every boundary and delivers until ctx is done; then it closes the open one, tries to send
// it for at most five seconds, and returns nil. The rest is on disk for the next Run.
//
// One goroutine decides everything. Another waits for the network, so that a connection that hangs does not keep an
// interval from the disk; Run waits for it before it returns.
func (p *Publisher) Run(ctx context.Context) error {
	p.open(ctx)
	for {
		wait := min(time.Until(p.next.boundary), time.Until(boundary(time.Now(), clockCheck))) // aligned with samplers
		if !p.inFlight && !p.next.send.IsZero() {
			wait = min(wait, time.Until(p.next.send))
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			p.finish(ctx)
			return nil
		case o := <-p.answer:
			p.inFlight = false
			p.handleOutcome(o, time.Now())
		case <-t.C:
		}
		t.Stop()
		now := time.Now()
		if p.intervalOver(now) {
			p.closeInterval(now, false)
		}
		if !p.inFlight && !p.next.send.IsZero() && !now.Before(p.next.send) {
			p.sendNext(ctx, now)
		}
	}
}

func (p *Publisher) open(ctx context.Context) {
	now := time.Now()
	p.next = schedule{
		boundary: boundary(now, p.config.Interval),
		offset:   rand.N(min(maxOffset, p.config.Interval/10)),
	}
	if p.config.Send == Off {
		p.spool = &spool{}
		p.setState(Local, "kept locally: sending is switched off (metrics.send)")
		return
	}
	s, err := openSpool(p.config.SpoolDir, p.config.SpoolLimit)
	if err != nil {
		p.logger.Warn("metrics are spooled in memory only", "err", err)
	}
	p.spool = s
	p.addUnreported(s.unreported)
	p.updateQueue()
	p.request(ctx, nil)
}

// intervalOver reports whether the open interval has ended, or the clock was stepped out of it.
func (p *Publisher) intervalOver(now time.Time) bool {
	return !now.Before(p.next.boundary) || p.next.boundary.Sub(now) > p.config.Interval
}

func boundary(now time.Time, interval time.Duration) time.Time {
	return now.UTC().Truncate(interval).Add(interval)
}

// outcome is what came of a request: of Connect when there was no batch, else of the batch.
type outcome struct {
	batch   *batch
	config  aws.Config
	verdict verdict
	err     error
}

// sendNext starts one attempt.
func (p *Publisher) sendNext(ctx context.Context, now time.Time) {
	p.next.send, p.next.paused = time.Time{}, false
	if p.api == nil {
		p.request(ctx, nil)
		return
	}
	for e := p.spool.pick(now); e != nil; e = p.spool.pick(now) {
		if b := p.prepare(e, now); b != nil {
			p.request(ctx, b)
			return
		}
	}
	p.updateQueue()
	p.goIdle()
}

// request sends b, or connects when it is nil, in a goroutine that answers once; Run waits for it.
func (p *Publisher) request(ctx context.Context, b *batch) {
	p.inFlight = true
	api := p.api
	go func() { p.answer <- p.roundTrip(ctx, api, b) }()
}

func (p *Publisher) roundTrip(ctx context.Context, api API, b *batch) outcome {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	if b == nil {
		c, err := p.config.Connect(ctx)
		return outcome{config: c, err: err}
	}
	v, err := attempt(ctx, api, input(b.namespace, b.at, b.datums))
	return outcome{batch: b, verdict: v, err: err}
}

// handleOutcome takes the outcome of a request and decides when to make the next one.
func (p *Publisher) handleOutcome(o outcome, now time.Time) {
	if o.batch == nil {
		p.connected(o)
	} else {
		p.handleResponse(o, now)
	}
	p.updateQueue()
	switch {
	case o.batch == nil && o.err != nil:
		p.backOff(now, deniedRetry)
	case o.batch == nil:
		p.next.failures, p.next.send = 0, now.Add(p.next.offset)
		return
	case p.mayContinue(o):
		p.next.failures = 0
		if p.spool.pick(now) != nil {
			p.pauseFor(now, p.pace)
			p.next.paused = false // the pace does not delay a new batch
			return
		}
	case o.verdict == denied:
		p.pauseFor(now, deniedRetry)
	default:
		p.backOff(now, lastRetry)
	}
	p.goIdle()
}

// mayContinue reports whether o says nothing about the next batch.
func (p *Publisher) mayContinue(o outcome) bool {
	return o.verdict == delivered || p.deniedEarlierNamespace(o) ||
		o.verdict == invalid && p.quarantined < maxQuarantined
}

// deniedEarlierNamespace reports whether a policy denies the namespace of an earlier configuration, perhaps for good.
// The current one may be allowed.
func (p *Publisher) deniedEarlierNamespace(o outcome) bool {
	return o.verdict == denied && o.batch.namespace != p.config.Namespace
}

func (p *Publisher) backOff(now time.Time, limit time.Duration) {
	d := min(limit, firstRetry<<min(p.next.failures, 10))
	p.next.failures++
	p.pauseFor(now, d)
}

func (p *Publisher) pauseFor(now time.Time, d time.Duration) {
	p.next.send, p.next.paused = now.Add(d/2+rand.N(d)), true
}

// prepare reads e and marks on disk that it is about to be sent. It drops what cannot be sent, and returns nil.
func (p *Publisher) prepare(e *entry, now time.Time) *batch {
	b, err := e.decoded, error(nil)
	e.decoded = nil
	if b == nil {
		b, err = p.spool.decode(e)
	}
	if err == nil && e.at.Before(now.Add(-oldest)) {
		err = fmt.Errorf("timestamp %s is older than CloudWatch accepts", e.at.Format(time.RFC3339))
	}
	if err != nil {
		p.logger.Warn("spooled metrics dropped", "err", err)
		p.spool.remove(e)
		p.drop("unreadable or too old", e.datums)
		return nil
	}
	e.tried, e.inFlight = true, true
	p.spool.mark(e, e.ambiguous+1)
	return b
}

// handleResponse does with the batch of o what its answer requires.
func (p *Publisher) handleResponse(o outcome, now time.Time) {
	e := o.batch.entry
	e.inFlight = false
	earlier := e.ambiguous - 1 // without this sending
	switch o.verdict {
	case delivered:
		p.quarantined = 0
		p.spool.remove(e)
		p.countSent(len(o.batch.datums), earlier, now)
		return
	case ambiguous:
	default:
		p.spool.mark(e, earlier)
	}
	reason := sentence(o.verdict, o.batch.namespace, o.err)
	switch {
	case o.verdict == invalid && p.quarantined < maxQuarantined:
		p.isolate(o.batch, o.err)
	case errors.Is(o.err, context.Canceled): // by us: Run is stopping
	case p.deniedEarlierNamespace(o):
		e.denied = true
		p.setLastError(reason)
	case o.verdict == denied:
		p.renewCredentials()
		p.setState(Denied, reason)
	default:
		if o.verdict == refused { // perhaps for its credentials
			p.renewCredentials()
		}
		p.setState(Waiting, reason)
	}
}

// renewCredentials has the next attempt fetch credentials: the instance may have another role by then, and the ones
// of the denied role stay valid for hours.
func (p *Publisher) renewCredentials() {
	if c, ok := p.credentials.(*aws.CredentialsCache); ok {
		c.Invalidate()
	}
}

// maxQuarantined is how many datums are dropped as invalid in a row, with none delivered in between. When CloudWatch
// refuses everything the datums are not at fault, but perhaps a clock that is hours wrong: they are kept and retried.
const maxQuarantined = 3

// isolate finds the datum that makes a request invalid: it halves the batch until that datum is alone, and drops it. A
// process that dies in between sends a half twice, uncounted.
func (p *Publisher) isolate(b *batch, why error) {
	if n := len(b.datums); n > 1 {
		for _, half := range [][]Datum{b.datums[:n/2], b.datums[n/2:]} {
			p.store(b.namespace, b.at, half, b.entry.ambiguous)
		}
	} else {
		p.quarantined++
		p.logger.Warn("metric dropped", "metric", b.datums[0].Name, "err", cause(why))
		p.drop("refused by CloudWatch", 1)
		p.setLastError(sentence(invalid, b.namespace, why))
	}
	p.spool.remove(b.entry)
}

// notSentYet is the reason between connecting and the first delivery, which is no error.
const notSentYet = "nothing has been sent yet"

// connected takes the outcome of Connect. In Auto, a failure is a state of the host and no fault.
func (p *Publisher) connected(o outcome) {
	switch {
	case o.err == nil:
		p.api, p.credentials = sdk.NewFromConfig(o.config), o.config.Credentials
		p.setState(Waiting, notSentYet)
	case errors.Is(o.err, context.Canceled):
	case p.config.Send == Auto:
		p.setState(Local, fmt.Sprintf("kept locally: %v", o.err))
	default:
		p.setState(Waiting, fmt.Sprintf("kept locally, not sent yet: %v", o.err))
	}
}

// finish ends Run: it writes the open interval to disk and sends what it can within flushLimit. The backlog follows
// without a pace: the instance may be about to be terminated, with its disk.
func (p *Publisher) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	if p.inFlight { // its context is done, so the answer is near
		p.handleOutcome(<-p.answer, time.Now())
	}
	p.closeInterval(time.Now(), true)
	for p.api != nil && ctx.Err() == nil {
		e := p.spool.pick(time.Now())
		if e == nil {
			return
		}
		b := p.prepare(e, time.Now())
		if b == nil {
			continue
		}
		o := p.roundTrip(ctx, p.api, b)
		p.handleResponse(o, time.Now())
		p.updateQueue()
		if !p.mayContinue(o) {
			return
		}
	}
}
