package claim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"
)

// maxSpread is the longest wait before the first read, unless we won last time.
const maxSpread = 3 * time.Second

// Claim decides whether this instance runs the slot of a job. It starts no request after the window. Only when a write
// of its own got no response does it go on reading for as long again: if that write took effect, no other instance runs
// the slot. The instance that won the job's last slot tries at once; the others first wait, each for a different time.
func (s *Store) Claim(ctx context.Context, q Request) (Outcome, error) {
	return s.claim(ctx, ask{Request: q})
}

// TakeOver claims a slot whose run is lost or was interrupted, as a claim does, so that this instance runs it again. A
// slot is taken over once. It is Busy while its owner renews the lease, Lost when it has ended or another instance has
// taken it over, and Superseded when a later slot has been claimed.
func (s *Store) TakeOver(ctx context.Context, q Request) (Outcome, error) {
	return s.claim(ctx, ask{Request: q, takeOver: true})
}

func (s *Store) claim(ctx context.Context, q ask) (Outcome, error) {
	if q.Slot = q.Slot.UTC(); !q.Manual {
		q.Slot = q.Slot.Truncate(time.Second)
	}
	q.owner, q.nonce, q.mark = s.config.Owner, newNonce(), s.mark
	if s.config.Group != "" {
		q.environment = s.config.Environment
	}
	if q.Attempt > 1 && !q.takeOver {
		if q.mine = s.nonce(q.Job, q.Slot); q.mine != "" {
			q.nonce = q.mine
		}
	}
	a := attempt{store: s, ask: q, closes: time.Now().Add(q.Window), register: s.cached(q.Job)}
	a.stale = a.register.tag != ""
	if !a.stale && !q.Manual && !pause(ctx, s.spreadDelay(q)) {
		return Outcome{}, s.count(q.Job, Outcome{}, fmt.Errorf("claim %q: %w", q.Job, context.Cause(ctx)))
	}
	o, err := a.run(ctx)
	if err != nil {
		err = fmt.Errorf("claim %q for %s: %w", q.Job, a.Slot.Format(time.RFC3339), err)
	}
	return o, s.count(q.Job, o, err)
}

// attempt is one Claim.
type attempt struct {
	ask
	store        *Store
	closes       time.Time // end of the window
	register     register  // as last read; no tag: must be read
	stale        bool      // the register is of an earlier claim: only what it says is free can be relied on
	maybeWritten bool      // a write of ours got no response
	pauses       backoff
}

func (a *attempt) run(ctx context.Context) (Outcome, error) {
	var last error
	for {
		closed := !time.Now().Before(a.closes)
		if closed && (!a.maybeWritten || !time.Now().Before(a.closes.Add(a.Window))) || ctx.Err() != nil {
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
		if !pause(ctx, a.pauses.next(err)) {
			return Outcome{}, a.giveUp(ctx, last)
		}
	}
}

// step reads if it must, and writes if the slot is free and the window open. Neither a state nor an error means that
// the register must be read again: another instance wrote, or it was that of an earlier claim.
func (a *attempt) step(ctx context.Context, closed bool) (Outcome, error) {
	s := a.store
	if err := a.read(ctx); err != nil {
		return Outcome{}, err
	}
	o := a.decide(a.register.Register, s.s3.clock.low())
	if o.State != Won {
		if err := s.s3.believe(a.register); err != nil {
			return Outcome{}, err
		}
	}
	switch ahead := a.Slot.Sub(s.s3.clock.high()); {
	case o.State != "" && a.stale:
		a.register = register{}
		return Outcome{}, nil
	case o.State != "":
		return a.decided(o, a.register), nil
	case ahead > maxAhead:
		return Outcome{}, fmt.Errorf("%w: by the store's clock the slot is due in %s: check this instance's, chronyd",
			errAhead, ahead.Round(time.Second))
	case closed:
		a.register = register{}
		return Outcome{}, errors.New("the write that was left without an answer has not taken effect")
	}
	return a.write(ctx)
}

// read reads the register if it must. What this process knows of its own runs is entered, and not yet written.
func (a *attempt) read(ctx context.Context) error {
	if a.register.tag == "" {
		r, err := a.store.s3.get(ctx, a.Job)
		if err != nil {
			return err
		}
		a.register, a.stale = r, false
	}
	a.register.Register = a.register.clone()
	a.store.enterEnds(a.Job, &a.register.Register)
	if a.Manual && a.Attempt <= 1 && (a.Slot.IsZero() || a.register.isTaken(a.Slot, a.nonce)) {
		a.Slot = manualSlot(a.register.Register, a.store.s3.clock.low())
	}
	return nil
}

// write enters the run of the free slot.
func (a *attempt) write(ctx context.Context) (Outcome, error) {
	s, next := a.store, a.register
	a.register = register{}
	next.Job = a.Job
	switch i := next.find(a.Slot); {
	case i >= 0 && a.takeOver:
		a.Attempt = max(next.Runs[i].Attempt, 1) + 1
	case i >= 0: // a further attempt has the nonce of the first
		a.nonce = next.Runs[i].Nonce
	}
	a.enter(&next.Register, s.s3.clock.low(), s.s3.clock.high())
	tag, err := s.s3.put(ctx, next)
	switch {
	case err == nil:
		next.tag = tag
		return a.decided(a.decide(next.Register, s.s3.clock.low()), next), nil
	case isConflict(err):
		return Outcome{}, nil
	case isUncertain(err):
		a.maybeWritten = true
	}
	return Outcome{}, err
}

// decided completes the outcome according to r.
func (a *attempt) decided(o Outcome, r register) Outcome {
	a.store.remember(a.Job, a.Slot, a.nonce, r)
	o.Expired, o.Missed = a.store.owed(r.Register, time.Time{})
	if o.State == Won {
		o.LeaseUntil = a.store.leaseUntil(o.Run, a.Grace)
	}
	return o
}

// leaseUntil is when a run must have been sent TERM, by the boot clock, so that nothing of it is left at its Until.
func (s *Store) leaseUntil(r Run, grace time.Duration) time.Duration {
	if r.Until.IsZero() {
		return 0
	}
	return max(1, s.s3.clock.before(r.Until.Add(-grace-margin)))
}

// isTaken reports whether another run has the slot.
func (r Register) isTaken(slot time.Time, nonce string) bool {
	i := r.find(slot)
	return i >= 0 && r.Runs[i].Nonce != nonce
}

// manualSlot is a slot for a run that a user starts: the store's time with a fraction of a second, which no scheduled
// slot has.
func manualSlot(r Register, now time.Time) time.Time {
	slot := stamp(now)
	for slot.Nanosecond() == 0 || r.find(slot) >= 0 {
		slot = slot.Add(time.Millisecond)
	}
	return slot
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
		a.store.abandon(a.ask)
		return fmt.Errorf("%w: the slot may be marked as claimed here, and does not run: %w", why, last)
	}
	return fmt.Errorf("%w: %w", why, last)
}

// spreadDelay is how long this instance waits before its first read, so that a fleet does not read at once and the last
// winner, which does not wait, has written by then. It differs by instance, job and slot.
func (s *Store) spreadDelay(q ask) time.Duration {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", s.config.Owner, q.Job, q.Slot.Unix())
	spread := min(maxSpread, q.Window/4)
	return spread/4 + time.Duration(h.Sum64()%1000)*(spread*3/4)/1000
}
