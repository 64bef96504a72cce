package cron

import (
	"context"
	"errors"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// finish has the register note how a slot's run ended, for all instances to see. Without a claim it may have been made
// by an earlier process.
func (c *fleet) finish(f scheduler.Firing, h *held, how, output string) {
	if h == nil && f.Job.On == scheduler.OnAll {
		return
	}
	r := claim.Result{Attempt: f.Attempt, Outcome: how, Output: output}
	if f.Reason != scheduler.Manual {
		c.mu.Lock()
		c.job(f.Job.Name).ended = f.Due
		c.mu.Unlock()
		if how == runs.Good {
			c.served(f.Job.Name, f.Due)
		}
	}
	switch {
	case h != nil:
		c.noteResult(h, r)
	case f.Reason != scheduler.Manual:
		c.outcomes.add(outcome{job: f.Job.Name, slot: f.Due, Result: r})
	}
}

// noteResult has a claim's register note its result, and this process's next claim know it.
func (c *fleet) noteResult(h *held, r claim.Result) {
	if h.store != nil {
		h.store.Ended(h.job, h.slot, r)
	}
	c.outcomes.add(outcome{job: h.job, slot: h.slot, Result: r, store: h.store, open: h.open})
}

// noteTold has a register note that what this process had to report by it has been.
func (c *fleet) noteTold(s *groupStore, register string) {
	c.outcomes.add(outcome{job: register, store: s, told: true})
}

// record writes an outcome into its register.
func (c *fleet) record(ctx context.Context, o outcome) {
	if o.told {
		if err := o.store.Told(ctx, o.job); err != nil {
			c.log.Warn("another instance may report once more what this one has", "job", o.job, "err", err)
		}
		return
	}
	claimed := o.store != nil || o.open != nil
	s, err := c.storeOf(ctx, o)
	if errors.Is(err, errNoStore) || err != nil && !claimed {
		return
	}
	if err == nil {
		err = s.FinishAll(ctx, o.job, append([]claim.End{{Slot: o.slot, Result: o.Result}}, o.others...))
	}
	if err != nil && (claimed || !errors.Is(err, claim.ErrNotRecorded)) {
		c.log.Warn("the end of a run is not in its register", "job", o.job, "due", o.slot, "err", err)
	}
}

// storeOf waits, where an earlier process claimed, until it is known in whose name.
func (c *fleet) storeOf(ctx context.Context, o outcome) (s *groupStore, err error) {
	switch {
	case o.store != nil:
		return o.store, nil
	case o.open == nil:
		return c.open()
	}
	for {
		s, err = o.open(ctx)
		if err == nil || errors.Is(err, errNoStore) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}
