package cron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// lockRegister is the register of a lock that holds in the environment.
func lockRegister(name string) string { return claim.LockPrefix + name }

// lock takes the lock that a job names, where it holds in the environment and not on this host alone. It waits as long
// as for a lock of the host. It is nil where there is none to take, and where none can be taken and the job, or the
// user who starts it, says that it runs all the same.
func (c *fleet) lock(ctx context.Context, f scheduler.Firing) (*held, error) {
	h, err := c.takeLock(ctx, f)
	if isUnclaimed(err) && (f.Forced || f.Job.OnClaimError == scheduler.ClaimErrorRun) {
		c.log.Warn("run without the lock of the environment, as the user or the job says",
			"job", f.Job.Name, "lock", f.Job.Lock, "err", err)
		return nil, nil
	}
	return h, err
}

func (c *fleet) takeLock(ctx context.Context, f scheduler.Firing) (*held, error) {
	if f.Job.LockScope != scheduler.LockEnvironment {
		return nil, nil
	}
	limit := window(f)
	if f.Reason == scheduler.Manual { // a user waits
		limit = manualWindow
	}
	s, err := c.opened(ctx, limit)
	switch {
	case errors.Is(err, errNoStore):
		return nil, nil
	case err != nil:
		return nil, unclaimed{err}
	}
	deadline := time.Now().Add(lockWait(f))
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		may, err := mayStart(ctx, f)
		if err != nil {
			return nil, err
		}
		out, err := s.Claim(ctx, claim.Request{Job: lockRegister(f.Job.Lock), Manual: true, Window: limit,
			Timeout: f.Job.Timeout, LockWait: lockWait(f), Grace: f.Job.Grace})
		for _, r := range out.Expired {
			c.losses.report(lockRegister(f.Job.Lock), r)
			c.losses.told(s, lockRegister(f.Job.Lock))
		}
		switch {
		case err != nil:
			return nil, unclaimed{err}
		case out.State == claim.Won:
			return c.holdLock(s, f, out.Run.Slot, out.LeaseUntil), nil
		case !time.Now().Add(wait).Before(deadline):
			return nil, fmt.Errorf("%s holds the lock %s of the environment since %s",
				where(out.By), f.Job.Lock, clock(out.By.Claimed))
		}
		waitsElsewhere(f, fmt.Sprintf("the lock %s of the environment, which %s holds since %s",
			f.Job.Lock, where(out.By), clock(out.By.Claimed)))
		select {
		case <-may.Done():
		case <-time.After(wait):
		}
	}
}

func (c *fleet) holdLock(s *groupStore, f scheduler.Firing, slot time.Time, until time.Duration) *held {
	h := c.leases.hold(s, f, slot, until)
	h.job, h.attempt, h.replaced = lockRegister(f.Job.Lock), 1, false
	return h
}

// unlock releases a lock.
func (c *fleet) unlock(h *held) {
	if h != nil {
		c.noteResult(h, claim.Result{Outcome: "released"})
	}
}
