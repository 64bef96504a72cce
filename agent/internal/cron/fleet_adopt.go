package cron

import (
	"cmp"
	"context"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// adopt takes over the claim of a run that an earlier process of this instance started. It is nil for a run that was
// not claimed, and so is the lock's of one that took none in the environment. Their registers are opened as soon as
// they can be, while the run goes on.
func (c *fleet) adopt(f scheduler.Firing, r runs.Run) (h, lock *held) {
	name, claimed := r.Meta[runs.MetaRegister]
	if f.Job.Grace = graceOf(r, f.Job.Grace); claimed || f.Job.On != scheduler.OnAll {
		h = c.leases.hold(nil, f, r.Slot, 0)
		h.attempt, h.lenient = r.Attempt, !claimed
		h.adopted(c, name, r)
		lease, known := r.Meta[metaLease]
		if !known && f.Job.Overlap == scheduler.Allow { // an older agent started it
			h.lenient = true
		}
		if lease == "none" {
			h.until, h.guessed = 0, false
		}
	}
	if slot, err := time.Parse(time.RFC3339Nano, r.Meta[metaLock]); err == nil {
		f.Job.Lock = cmp.Or(f.Job.Lock, r.Lock)
		lock = c.holdLock(nil, f, slot, 0)
		lock.adopted(c, cmp.Or(r.Meta[metaLockIn], name), r)
	}
	pair(h, lock)
	return h, lock
}

// adopted has the lease of run r renewed at once, in the registers of that name. When it ends the supervisor knows,
// which ends the run then; by what is known here it ends no later than one that began now.
func (h *held) adopted(c *fleet, register string, r runs.Run) {
	if unheard, known := r.Meta[metaUnheard]; known {
		h.prefersRun = unheard == "goes on"
	}
	h.open = func(ctx context.Context) (*groupStore, error) { return c.openedAs(ctx, register) }
	now := runs.BootNow()
	h.until, h.renewed, h.guessed = now+runs.BootTime(3*claim.RenewEvery), now-runs.BootTime(claim.RenewEvery), true
}

// takeOver claims a slot whose run was lost with another instance. It returns the attempt that it is.
func (c *fleet) takeOver(ctx context.Context, f scheduler.Firing) (*held, int, error) {
	waits(f, "S3")
	s, err := c.open()
	if err != nil {
		return nil, 0, unclaimed{err}
	}
	if err := c.notServed(ctx, s, f); err != nil {
		return nil, 0, err
	}
	out, err := s.TakeOver(ctx, request(f))
	c.losses.tell(s, f.Job, out.Expired, out.Missed)
	switch {
	case err != nil:
		return nil, 0, unclaimed{err}
	case out.State != claim.Won:
		c.notTaken(ctx, s, f, out)
		c.log.Info("a lost slot is not run again here",
			"job", f.Job.Name, "due", f.Due, "why", string(out.State), "by", out.By.Owner)
		return nil, 0, scheduler.ErrElsewhere
	}
	c.own(f)
	c.served(f.Job.Name, f.Due)
	f.Attempt = max(out.Run.Attempt, 1)
	return c.leases.hold(s, f, out.Run.Slot, out.LeaseUntil), f.Attempt, nil
}

// notTaken looks again where another run of the job is in the way, and has the slot of a paused job noted as missed.
func (c *fleet) notTaken(ctx context.Context, s *groupStore, f scheduler.Firing, out claim.Outcome) {
	switch out.State {
	case claim.Busy:
		c.losses.lookIn(f.Job, out.Again)
	case claim.Paused:
		lost := claim.Run{Slot: f.Due, Outcome: claim.Interrupted}
		c.losses.noteMissed(ctx, s, f.Job, lost, "the job is paused")
	}
}
