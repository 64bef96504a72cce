// Package claim lets one instance of a fleet run each slot of a job, by compare-and-swap on one S3 object per job.
//
// A slot is a job's scheduled time, the same on instances whose clocks differ. The object, the job's register, lists
// the last claims, newest first. A claim reads the register and writes it back with the slot added, on the condition
// that it has not changed in between; S3 decides. Three rules keep it right:
//
//   - A refused condition does not mean that the slot is lost, only that another instance wrote: read again.
//   - A write whose response was lost may have won: each claim has a nonce; the instance that reads it back has won.
//   - A late, older slot is added beside the newer ones, never instead of them. One older than all slots still in the
//     register is Superseded: it is not known whether it ran.
//
// At most one instance runs a slot, always. Exactly one does if one that stays up can reach the bucket within the
// window. When a claim is neither won nor lost, the slot does not run on this instance and the caller gets an error.
//
// The default role of Elastic Beanstalk instances may already read and write the environment's own bucket, so this
// needs no new infrastructure and no new permission.
package claim

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// DefaultPrefix is where in a bucket the registers are when nothing else is configured.
const DefaultPrefix = "beanstalk-agent/claims"

// Config says where the registers are, and for which instance slots are claimed.
type Config struct {
	// Required. Bucket, and the region it is in.
	Bucket string
	Region string

	// Required. Environment keeps two environments of one application, which may share a bucket, apart. All instances
	// of one must say the same.
	Environment string

	// Required. Owner is this instance's name, as shown to users.
	Owner string

	// Required. Credentials that may get and put objects under Prefix.
	Credentials aws.CredentialsProvider

	// Optional.
	Prefix   string       // "": DefaultPrefix
	Endpoint string       // URL of another S3-compatible service; "": AWS's own for the region
	Client   *http.Client // nil: http.DefaultClient
	Logger   *slog.Logger // nil: none
}

// State is the result of a claim.
type State string

// The states.
const (
	Won  State = "won"  // run it: no other instance will
	Lost State = "lost" // another instance has it

	// Superseded: newer slots were claimed, and the register no longer says whether this one was. Do not run it, and
	// report it as skipped.
	Superseded State = "superseded"
)

// Outcome is the answer to a claim. State is empty when the error is not nil.
type Outcome struct {
	State State
	By    Run // the run that has the slot, when Lost; the newest run, when Superseded

	// Unfinished are other runs of the job that the register lists as started and not ended, newest first: in progress,
	// or their owner died. For overlap policies of a whole fleet.
	Unfinished []Run

	// Before is the last run of an earlier slot that has ended, on any instance; zero when none is known.
	Before Run
}

// Errors that a caller may match. Each is wrapped in a sentence that says what to do.
var (
	// ErrUnreachable: the window passed without a response that decides the claim.
	ErrUnreachable = errors.New("the claim store cannot be reached")

	// ErrDenied: the role lacks a permission; the message has the statement to add.
	ErrDenied = errors.New("the claim store denies access")

	// ErrMisconfigured: the bucket does not exist, is in another region, or has another object in the register's place.
	ErrMisconfigured = errors.New("the claim store is not usable as configured")

	// errAhead: a slot of the future, in the register or of an instance whose clock is wrong.
	errAhead = fmt.Errorf("%w: a clock is wrong, or somebody else writes there", ErrMisconfigured)

	// ErrNotRecorded: the register does not, or no longer, list the slot as claimed by this instance.
	ErrNotRecorded = errors.New("the slot is not in the register")
)

// Time limits and pauses.
const (
	requestLimit = 5 * time.Second
	maxSpread    = 3 * time.Second // the longest wait before the first read, unless we won last time
	firstPause   = 100 * time.Millisecond
	lastPause    = 2 * time.Second
)

// Store claims slots. It is safe for concurrent use.
type Store struct {
	config Config
	s3     *bucket
	logger *slog.Logger

	mu     sync.Mutex // guards the fields below
	jobs   map[string]*jobState
	known  int // jobs whose last register is kept
	counts Status
}

// jobState is this process's state of one job.
type jobState struct {
	last      register          // as last written here, with its tag: valid only until another instance writes
	own       map[int64]string  // nonce of each slot claimed here that has not ended, by Unix time
	abandoned map[string]string // why a claim that may yet turn out ours was not run, by nonce
}

// New checks c, and returns all faults at once. It does not use the network.
func New(c Config) (*Store, error) {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Client == nil {
		c.Client = http.DefaultClient
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	for _, f := range []struct{ what, value string }{{"environment", c.Environment}, {"owner", c.Owner}} {
		if f.value == "" {
			errs = append(errs, fmt.Errorf("use a claim store: the %s is not known", f.what))
		}
	}
	if c.Credentials == nil {
		errs = append(errs, errors.New("use a claim store: credentials are required"))
	}
	b, err := newBucket(c)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	counts := Status{Won: map[string]int{}}
	return &Store{config: c, s3: b, logger: c.Logger, jobs: map[string]*jobState{}, counts: counts}, nil
}

// Owner is this instance as the registers name it.
func (s *Store) Owner() string { return s.config.Owner }

// Claim decides whether this instance runs the slot of job. It starts no request after window. Only when a write of its
// own got no response does it go on reading for as long again: if that write took effect, no other instance runs the
// slot. The instance that won the job's last slot tries at once; the others first wait, each for a different time.
func (s *Store) Claim(ctx context.Context, job string, slot time.Time, window time.Duration) (Outcome, error) {
	a := attempt{store: s, job: job, slot: slot.UTC().Truncate(time.Second), nonce: newNonce()}
	a.until = time.Now().Add(window)
	a.register = s.cached(job)
	if a.register.tag == "" && !pause(ctx, s.spreadDelay(job, a.slot, window)) {
		return Outcome{}, s.count(job, Outcome{}, fmt.Errorf("claim %q: %w", job, context.Cause(ctx)))
	}
	o, err := a.run(ctx, window)
	if err != nil {
		err = fmt.Errorf("claim %q for %s: %w", job, a.slot.Format(time.RFC3339), err)
	}
	return o, s.count(job, o, err)
}

// attempt is one Claim.
type attempt struct {
	store        *Store
	job          string
	slot         time.Time
	nonce        string
	until        time.Time // end of the window
	register     register  // as last read; no tag: must be read
	maybeWritten bool      // a write of ours got no response
	failures     int
}

func (a *attempt) run(ctx context.Context, window time.Duration) (Outcome, error) {
	var last error
	for {
		closed := !time.Now().Before(a.until)
		if closed && (!a.maybeWritten || !time.Now().Before(a.until.Add(window))) || ctx.Err() != nil {
			return Outcome{}, a.giveUp(ctx, last)
		}
		o, err := a.step(ctx, closed)
		if err == nil && o.State != "" {
			return o, nil
		}
		if isFinal(err) && !a.maybeWritten {
			return Outcome{}, err
		}
		if err != nil {
			last = err
		}
		if !pause(ctx, a.pause(err)) {
			return Outcome{}, a.giveUp(ctx, last)
		}
	}
}

// step reads if it must, and writes if the slot is free and the window open. Neither a state nor an error means that
// another instance wrote: read again.
func (a *attempt) step(ctx context.Context, closed bool) (Outcome, error) {
	s := a.store
	if a.register.tag == "" {
		r, err := s.s3.get(ctx, a.job)
		if err != nil {
			return Outcome{}, err
		}
		a.register = r
	}
	o := a.register.decide(a.slot, a.nonce)
	if o.State != Won {
		if err := s.s3.believe(a.register); err != nil {
			return Outcome{}, err
		}
	}
	if o.State != "" {
		s.remember(a.job, a.slot, a.nonce, a.register)
		return o, nil
	}
	if ahead := a.slot.Sub(s.s3.now()); ahead > maxAhead {
		return Outcome{}, fmt.Errorf("%w: by the store's clock the slot is due in %s: check this instance's, chronyd",
			errAhead, ahead.Round(time.Second))
	}
	if closed {
		a.register = register{}
		return Outcome{}, errors.New("the write that was left without an answer has not taken effect")
	}
	next := a.register.with(Run{Slot: a.slot, Nonce: a.nonce, Owner: s.config.Owner, Claimed: time.Now().UTC()})
	next.Job = a.job
	s.closeAbandoned(a.job, &next)
	a.register = register{}
	tag, err := s.s3.put(ctx, next)
	switch {
	case err == nil:
		next.tag = tag
		s.remember(a.job, a.slot, a.nonce, next)
		return next.decide(a.slot, a.nonce), nil
	case isConflict(err):
		return Outcome{}, nil
	case isUncertain(err):
		a.maybeWritten = true
	}
	return Outcome{}, err
}

// pause grows with failures; after a mere conflict it is short and random.
func (a *attempt) pause(err error) time.Duration {
	if err == nil {
		return mathrand.N(firstPause)
	}
	d := min(lastPause, firstPause<<min(a.failures, 5))
	a.failures++
	return d/2 + mathrand.N(d/2)
}

// giveUp makes the error of a claim that is neither won nor lost.
func (a *attempt) giveUp(ctx context.Context, last error) error {
	if last == nil {
		last = errors.New("others kept writing")
	}
	why := ErrUnreachable
	switch {
	case ctx.Err() != nil:
		why = context.Cause(ctx)
	case errors.Is(last, ErrMisconfigured):
		why = ErrMisconfigured
	case errors.Is(last, ErrDenied):
		why = ErrDenied
	}
	if a.maybeWritten {
		a.store.abandon(a.job, a.nonce)
		return fmt.Errorf("%w: the slot may be marked as claimed here, and does not run: %w", why, last)
	}
	return fmt.Errorf("%w: %w", why, last)
}

// spreadDelay is how long this instance waits before its first read, so that a fleet does not read at once and the last
// winner, which does not wait, has written by then. It differs by instance, job and slot.
func (s *Store) spreadDelay(job string, slot time.Time, window time.Duration) time.Duration {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", s.config.Owner, job, slot.Unix())
	spread := min(maxSpread, window/4)
	return spread/4 + time.Duration(h.Sum64()%1000)*(spread*3/4)/1000
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
