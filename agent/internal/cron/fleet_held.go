package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// held is a slot that this instance has claimed. Its lease is renewed while its run goes on, in the register and at the
// supervisor, which ends a run whose lease is over, also while there is no agent.
type held struct {
	leases  *leases
	store   *groupStore // nil until open has opened it: of a run that an earlier process started
	open    func(context.Context) (*groupStore, error)
	job     string // as the register has it
	slot    time.Time
	attempt int
	grace   time.Duration

	prefersRun bool // without a word from S3 the run goes on, perhaps beside another
	replaced   bool // other instances may ask for its end
	lenient    bool // it may never have been claimed: an older agent started it

	mu      sync.Mutex
	until   runs.BootTime // of the lease; 0: there is none
	renewed runs.BootTime
	guessed bool  // until is: the run is an earlier process's, and has not been renewed by this one
	other   *held // of the same run: its slot's of a lock's, and a lock's of its slot's
	late    bool  // it has been logged that the lease is not renewed
	ended   error // why this process ended the run, if it did

	// keep's own.
	lapses  runs.BootTime // when the supervisor ends the run, since it did not take the last lease; 0: it did
	stopped bool          // it has been asked to end it, and did
	stop    func()        // ends keep
}

// leases are the slots that this instance has claimed and whose runs are in progress.
type leases struct {
	runs Runs
	log  *slog.Logger

	mu   sync.Mutex
	held map[*held]bool
}

// hold makes the claim of a slot that this instance has won.
func (l *leases) hold(s *groupStore, f scheduler.Firing, slot time.Time, until time.Duration) *held {
	return &held{leases: l, store: s, job: f.Job.Name, slot: slot, attempt: f.Attempt, grace: f.Job.Grace,
		until: runs.BootTime(until), renewed: runs.BootNow(),
		prefersRun: f.Job.OnClaimError == scheduler.ClaimErrorRun, replaced: f.Job.Overlap == scheduler.Replace}
}

// note keeps which slots are held, for status.
func (l *leases) note(h *held, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.held, h); on {
		l.held[h] = true
	}
}

// pair has the supervisor let one run go on no longer than either of its two leases.
func pair(slot, lock *held) {
	if slot == nil || lock == nil {
		return
	}
	for a, b := range map[*held]*held{slot: lock, lock: slot} {
		a.mu.Lock()
		a.other = b
		a.mu.Unlock()
	}
}

// leaseUntil is when the first of the run's leases is over; 0: it has none. It is not known while one of them was
// taken by an earlier process and has not been renewed since.
func (h *held) leaseUntil() (until runs.BootTime, known bool) {
	h.mu.Lock()
	until, known, other := h.until, !h.guessed, h.other
	h.mu.Unlock()
	if other == nil {
		return until, known
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	if other.until != 0 && (until == 0 || other.until < until) {
		until = other.until
	}
	return until, known && (other.until == 0 || !other.guessed)
}

// hasLease reports whether a lease ends the run.
func (h *held) hasLease() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until != 0
}

// why is why this process ended the run, or nil.
func (h *held) why() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// renew renews the lease in the register. Where claims are off by now, no register has a say.
func (h *held) renew(ctx context.Context) (replacedBy string, err error) {
	r := claim.Renewal{LeaseUntil: time.Duration(runs.BootNow()) + 3*claim.RenewEvery}
	if h.store == nil {
		h.store, err = h.open(ctx)
	}
	if err == nil {
		r, err = h.store.Renew(ctx, h.job, h.slot, h.grace)
	}
	if err != nil && !errors.Is(err, errNoStore) {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.late {
		h.leases.log.Info("the lease of a run is renewed again", "job", h.job, "due", h.slot)
	}
	h.until, h.renewed, h.late, h.guessed = runs.BootTime(r.LeaseUntil), runs.BootNow(), false, false
	return r.ReplacedBy, nil
}

// Between two tries to renew a lease, and two looks for a request to end.
const (
	renewPause  = 5 * time.Second
	replaceLook = 10 * time.Second
)

// keep renews the lease of the run of that id until release.
func (h *held) keep(id string) *held {
	if h == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	h.leases.note(h, true)
	loop.Go(func() { h.loop(ctx, id) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		loop.Wait()
		h.leases.note(h, false)
	})
	return h
}

// release ends keep.
func (h *held) release() {
	if h != nil {
		h.stop()
	}
}

func (h *held) loop(ctx context.Context, id string) {
	for ctx.Err() == nil && !h.stopped {
		wait, renews := h.next()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		switch why := h.why(); {
		case why != nil: // it began meanwhile, or the supervisor did not answer
			h.interrupt(ctx, id, why)
		case renews:
			h.tryRenew(ctx, id)
		default:
			h.lookForEnd(ctx, id)
		}
	}
}

// next is how long to wait, and whether for a renewal.
func (h *held) next() (wait time.Duration, renews bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return renewPause, false
	}
	if h.until == 0 { // no run of another can be in its way
		return time.Hour, false
	}
	due := claim.RenewEvery - time.Duration(runs.BootNow()-h.renewed)
	if h.replaced && due > replaceLook {
		return replaceLook, false
	}
	return max(due, renewPause), true
}

// tryRenew renews the lease in the register and at the supervisor. Where the supervisor is gone, so is the run, and the
// register must not have it as in progress for ever.
func (h *held) tryRenew(ctx context.Context, id string) {
	before, _ := h.leaseUntil()
	if h.lapses != 0 && runs.BootNow() >= h.lapses {
		h.end(ctx, id, fmt.Errorf("%w: the supervisor took no lease", scheduler.ErrInterrupted))
		return
	}
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	by, err := h.renew(limited)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, claim.ErrNotRecorded):
		h.notOurs(ctx, id, err)
	case err != nil:
		h.notRenewed(ctx, id, err)
	case by != "" && h.replaced:
		h.end(ctx, id, fmt.Errorf("%w: %s asked for it", scheduler.ErrReplaced, printable(by)))
	default:
		h.extend(ctx, id, before)
	}
}

// lookForEnd reads whether another instance asks for the end of the run.
func (h *held) lookForEnd(ctx context.Context, id string) {
	if !h.replaced || h.store == nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, replaceLook)
	defer cancel()
	r, err := h.store.Read(limited, h.job)
	if err != nil {
		return // the next look, or the renewal
	}
	for _, run := range r.Runs {
		if run.Slot.Equal(h.slot) && run.ReplacedBy != "" && run.Outcome == "" {
			h.end(ctx, id, fmt.Errorf("%w: %s asked for it", scheduler.ErrReplaced, printable(run.ReplacedBy)))
		}
	}
}

// extend has the supervisor let the run go on, which it did until before.
func (h *held) extend(ctx context.Context, id string, before runs.BootTime) {
	until, known := h.leaseUntil()
	now := runs.BootNow()
	if !known || until <= now {
		return
	}
	err := h.leases.runs.RenewLease(ctx, id, time.Duration(until-now), now)
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, runs.ErrNoLease), errors.Is(err, runs.ErrUnknown),
		errors.Is(err, runs.ErrEnded): // not begun yet, over, or the supervisor is older
		h.lapses = 0
	default:
		h.lapses = cmp.Or(h.lapses, before)
		h.leases.log.Warn("the supervisor does not take the lease", "job", h.job, "run", id, "err", err)
	}
}

// notRenewed says that the run ends unless S3 answers, and ends it itself when the lease is over: the supervisor may be
// of a version that does not.
func (h *held) notRenewed(ctx context.Context, id string, err error) {
	h.mu.Lock()
	now := runs.BootNow()
	goesOn := h.prefersRun || h.lenient
	says := h.isLateLocked(now) && !h.late && !goesOn
	h.late = h.late || says
	over := now >= h.until
	at := time.Now().Add(time.Duration(h.until - now))
	h.mu.Unlock()
	if says {
		h.leases.log.Warn("the run ends unless S3 answers: its lease is not renewed",
			"job", h.job, "due", h.slot, "at", at, "err", err)
	}
	if over && !goesOn {
		h.end(ctx, id, fmt.Errorf("%w: S3 did not answer, so another instance may run it", scheduler.ErrInterrupted))
	}
}

// isLateLocked reports whether half the lease has passed since it was renewed.
func (h *held) isLateLocked(now runs.BootTime) bool {
	return h.until != 0 && time.Duration(now-h.renewed) > claim.RenewEvery*3/2
}

// notOurs ends a run that the register no longer calls this instance's.
func (h *held) notOurs(ctx context.Context, id string, err error) {
	if h.lenient || h.prefersRun {
		if !h.lenient {
			h.leases.log.Warn("the run goes on, as the job says, and may run elsewhere too", "job", h.job, "err", err)
		}
		h.mu.Lock()
		h.until = 0
		h.mu.Unlock()
		return
	}
	h.end(ctx, id, fmt.Errorf("%w: %w", scheduler.ErrInterrupted, err))
}

// end ends the run. One that has not begun does not begin.
func (h *held) end(ctx context.Context, id string, why error) {
	h.mu.Lock()
	h.ended = why
	h.mu.Unlock()
	h.leases.log.Warn("the run is ended", "job", h.job, "due", h.slot, "run", id, "why", why)
	h.interrupt(ctx, id, why)
}

// interrupt has the supervisor end the run. What it does not know may yet begin, so that is tried again.
func (h *held) interrupt(ctx context.Context, id string, why error) {
	by := runs.StoppedReplaced
	if errors.Is(why, scheduler.ErrInterrupted) {
		by = runs.StoppedLease
	}
	_, err := h.leases.runs.Interrupt(ctx, id, by)
	h.stopped = err == nil || errors.Is(err, runs.ErrEnded)
	if !h.stopped && !errors.Is(err, runs.ErrUnknown) && ctx.Err() == nil {
		h.leases.log.Warn("the run is not ended", "job", h.job, "run", id, "err", err)
	}
}
