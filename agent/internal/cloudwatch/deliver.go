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

// Pauses of the delivery, each jittered by half: instances that failed together must not come back together.
const (
	defaultPace = time.Second      // between two batches of a backlog
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
//
// One goroutine decides everything. The network is waited for in another, so that a far side that hangs does not keep
// an interval from reaching the disk; Run waits for it before it returns.
func (p *Publisher) Run(ctx context.Context) error {
	p.open(ctx)
	for {
		wait := min(time.Until(boundary(time.Now(), lookAgain)), time.Until(p.next.boundary)) // when the samplers wake, too
		if !p.flying && !p.next.send.IsZero() {
			wait = min(wait, time.Until(p.next.send))
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ctx.Done():
			t.Stop()
			p.finish(ctx)
			return nil
		case o := <-p.answer:
			p.flying = false
			p.land(o, time.Now())
		case <-t.C:
		}
		t.Stop()
		now := time.Now()
		if p.over(now) {
			p.cut(now, false)
		}
		if !p.flying && !p.next.send.IsZero() && !now.Before(p.next.send) {
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
	p.inherit(s.untold)
	p.noteQueue()
	p.launch(ctx, nil)
}

// over reports whether the interval under way has ended, or the clock has left it.
func (p *Publisher) over(now time.Time) bool {
	return !now.Before(p.next.boundary) || p.next.boundary.Sub(now) > p.config.Interval
}

func boundary(now time.Time, interval time.Duration) time.Time {
	return now.UTC().Truncate(interval).Add(interval)
}

// parcel is one entry of the spool made ready, or nil where there is nobody to send it to yet.
type parcel struct {
	entry     *entry
	namespace string
	at        time.Time
	datums    []Datum
}

// outcome is what the network said: to Connect when there was no parcel, else to the parcel.
type outcome struct {
	parcel  *parcel
	config  aws.Config
	verdict verdict
	err     error
}

// deliver starts one attempt.
func (p *Publisher) deliver(ctx context.Context, now time.Time) {
	p.next.send, p.next.paused = time.Time{}, false
	if p.api == nil {
		p.launch(ctx, nil)
		return
	}
	for e := p.spool.pick(now); e != nil; e = p.spool.pick(now) {
		if parcel := p.prepare(e, now); parcel != nil {
			p.launch(ctx, parcel)
			return
		}
	}
	p.noteQueue()
	p.rest()
}

// launch asks the network in a goroutine that answers once; Run waits for it.
func (p *Publisher) launch(ctx context.Context, parcel *parcel) {
	p.flying = true
	api := p.api
	go func() { p.answer <- p.ask(ctx, api, parcel) }()
}

func (p *Publisher) ask(ctx context.Context, api API, parcel *parcel) outcome {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	if parcel == nil {
		c, err := p.config.Connect(ctx)
		return outcome{config: c, err: err}
	}
	v, err := attempt(ctx, api, input(parcel.namespace, parcel.at, parcel.datums))
	return outcome{parcel: parcel, verdict: v, err: err}
}

// land takes the network's answer and decides when to ask again.
func (p *Publisher) land(o outcome, now time.Time) {
	if o.parcel == nil {
		p.connected(o)
	} else {
		p.settle(o, now)
	}
	p.noteQueue()
	switch {
	case o.parcel == nil && o.err != nil:
		p.pause(now, deniedRetry)
	case o.parcel == nil:
		p.next.failures, p.next.send = 0, now.Add(p.next.phase)
		return
	case p.goesOn(o):
		p.next.failures = 0
		if p.spool.pick(now) != nil {
			p.pauseFor(now, p.pace)
			p.next.paused = false // a pace is not a pause: the present may go first
			return
		}
	case o.verdict == denied:
		p.pauseFor(now, deniedRetry)
	default:
		p.pause(now, lastRetry)
	}
	p.rest()
}

// goesOn reports whether what came of o says nothing of the next parcel.
func (p *Publisher) goesOn(o outcome) bool {
	return o.verdict == delivered || o.verdict == invalid && p.spoiled < maxSpoiled || p.barred(o)
}

// barred reports whether a policy denies the namespace of an earlier configuration, perhaps for
// good. The present's may be allowed.
func (p *Publisher) barred(o outcome) bool {
	return o.verdict == denied && o.parcel.namespace != p.config.Namespace
}

func (p *Publisher) pause(now time.Time, most time.Duration) {
	d := min(most, firstRetry<<min(p.next.failures, 10))
	p.next.failures++
	p.pauseFor(now, d)
}

func (p *Publisher) pauseFor(now time.Time, d time.Duration) {
	p.next.send, p.next.paused = now.Add(d/2+rand.N(d)), true
}

// prepare reads e and notes on disk that it is about to be sent. What cannot be sent is set aside, and nil returned.
func (p *Publisher) prepare(e *entry, now time.Time) *parcel {
	out, err := e.fresh, error(nil)
	e.fresh = nil
	if out == nil {
		out, err = p.unpack(e)
	}
	if err == nil && e.at.Before(now.Add(-oldest)) {
		err = fmt.Errorf("timestamp %s is older than CloudWatch accepts", e.at.Format(time.RFC3339))
	}
	if err != nil {
		p.logger.Warn("spooled metrics set aside", "err", err)
		p.spool.remove(e)
		p.drop("unreadable or too old", e.datums)
		return nil
	}
	e.tried, e.flying = true, true
	p.spool.mark(e, e.unsure+1)
	return out
}

// unpack reads a batch back from the spool.
func (p *Publisher) unpack(e *entry) (*parcel, error) {
	rec, err := p.spool.load(e)
	if err != nil {
		return nil, err
	}
	namespace, at, ds, err := decodeRecord(rec)
	return &parcel{e, namespace, at, ds}, err
}

// settle does with a parcel what the answer says.
func (p *Publisher) settle(o outcome, now time.Time) {
	e := o.parcel.entry
	e.flying = false
	earlier := e.unsure - 1 // sendings that may have been applied, without this one
	switch o.verdict {
	case delivered:
		p.spoiled = 0
		p.spool.remove(e)
		p.sent(len(o.parcel.datums), earlier, now)
		return
	case unsure:
	default:
		p.spool.mark(e, earlier)
	}
	switch {
	case o.verdict == invalid && p.spoiled < maxSpoiled:
		p.isolate(o.parcel, o.err)
	case errors.Is(o.err, context.Canceled): // it was us, who are stopping
	case p.barred(o):
		e.barred = true
		p.tell(sentence(o.verdict, o.parcel.namespace, o.err))
	case o.verdict == denied:
		p.renew()
		p.enter(Denied, sentence(o.verdict, o.parcel.namespace, o.err))
	default:
		if o.verdict == refused { // for its credentials, for one
			p.renew()
		}
		p.enter(Waiting, sentence(o.verdict, o.parcel.namespace, o.err))
	}
}

// renew has the next attempt ask who we are: another role may have been given to the instance, and the
// credentials of the one that is refused are good for hours yet.
func (p *Publisher) renew() {
	if c, ok := p.credentials.(*aws.CredentialsCache); ok {
		c.Invalidate()
	}
}

// maxSpoiled is how many datums are set aside in a row, without one delivered in between. When everything is refused
// it is not the datums: a clock that is hours wrong, for one. They are kept then, and tried again.
const maxSpoiled = 3

// isolate finds the datum that spoils a request: the batch is halved, and halved again, until it stands alone; then it
// is set aside. A process that dies between the steps sends a half twice, uncounted.
func (p *Publisher) isolate(o *parcel, why error) {
	if n := len(o.datums); n > 1 {
		for _, half := range [][]Datum{o.datums[:n/2], o.datums[n/2:]} {
			p.store(o.namespace, o.at, half, o.entry.unsure)
		}
	} else {
		p.spoiled++
		p.logger.Warn("metric set aside", "metric", o.datums[0].Name, "err", cause(why))
		p.drop("refused by CloudWatch", 1)
		p.tell(sentence(invalid, o.namespace, why))
	}
	p.spool.remove(o.entry)
}

// connected makes the client, once it can be made. In Auto, not being able to is a state of the host and no fault.
func (p *Publisher) connected(o outcome) {
	switch {
	case o.err == nil:
		p.api, p.credentials = sdk.NewFromConfig(o.config), o.config.Credentials
		p.enter(Waiting, notYet)
	case errors.Is(o.err, context.Canceled):
	case p.config.Send == Auto:
		p.enter(Local, fmt.Sprintf("kept locally: %v", o.err))
	default:
		p.enter(Waiting, fmt.Sprintf("kept locally, not sent yet: %v", o.err))
	}
}

// finish is the end of Run: the open interval goes to disk, and out if that is quick. The backlog follows without its
// pace: the instance may be going away, and its disk with it.
func (p *Publisher) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	if p.flying { // its context is done, so the answer is near
		p.land(<-p.answer, time.Now())
	}
	p.cut(time.Now(), true)
	for p.api != nil && ctx.Err() == nil {
		e := p.spool.pick(time.Now())
		if e == nil {
			return
		}
		parcel := p.prepare(e, time.Now())
		if parcel == nil {
			continue
		}
		o := p.ask(ctx, p.api, parcel)
		p.settle(o, time.Now())
		p.noteQueue()
		if !p.goesOn(o) {
			return
		}
	}
}
