package cron

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// finishLeftovers deals with slots that this instance claimed before a restart and whose outcome the register lacks.
// One that has no run is logged: no other instance starts it, and a later slot stands for it at best. The outcome of a
// run that ended while there was no agent is noted, and it reports whether there was one.
func (c *fleet) finishLeftovers(ctx context.Context, s *groupStore, f scheduler.Firing, unfinished []claim.Run) (
	noted bool) {
	for _, r := range unfinished {
		ours := r.Owner == s.Owner() && !s.Claimed(f.Job.Name, r.Slot)
		if !ours || !r.Slot.Before(f.Due) || c.isResolved(f.Job.Name, r.Slot) {
			continue
		}
		run, err := c.runOf(ctx, f.Job.Name, r)
		text := runs.Describe(run)
		switch {
		case errors.Is(err, runs.ErrUnknown):
			text = "not started: the agent was ended first"
			c.log.Warn("claimed before a restart, and not started",
				"job", f.Job.Name, "due", r.Slot, "claimed", r.Claimed)
		case err != nil || run.Live():
			continue
		}
		c.resolve(f.Job.Name, r.Slot)
		if c.app.Facts().InstanceID != "" { // else the claim may be another's, of the same host name
			result := claim.Result{Attempt: r.Attempt, Outcome: text}
			s.Ended(f.Job.Name, r.Slot, result)
			c.outcomes.add(outcome{job: f.Job.Name, slot: r.Slot, Result: result, store: s})
			noted = true
		}
	}
	c.forgetResolved(f, unfinished)
	return noted
}

// leftoversOf notes how a run ended meanwhile of a job whose next claim is far: others would take it for lost. A slot
// without a run is left to the scheduler, which still owes it.
func (c *fleet) leftoversOf(ctx context.Context, job scheduler.Job) {
	s, err := c.opened(ctx, time.Minute)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := s.Read(ctx, job.Name)
	if err != nil {
		return
	}
	unfinished := slices.DeleteFunc(r.Runs, func(run claim.Run) bool {
		_, err := c.runOf(ctx, job.Name, run)
		return run.Outcome != "" || err != nil
	})
	c.finishLeftovers(ctx, s, scheduler.Firing{Job: job, Due: time.Now()}, unfinished)
}

var errNotListed = errors.New("no run of that time is listed")

// runOf is the run of a slot that this instance has claimed. One that a user started has the time of this host in its
// id, and in its record the slot, which is the store's.
func (c *fleet) runOf(ctx context.Context, job string, r claim.Run) (runs.Run, error) {
	if !r.Manual {
		return c.runs.Get(ctx, runs.SlotID(job, r.Slot, max(r.Attempt, 1)))
	}
	past, err := c.runs.List(ctx, runs.Filter{Kind: "cron", Name: job, Limit: 500})
	i := slices.IndexFunc(past, func(run runs.Run) bool { return run.Slot.Equal(r.Slot) })
	if err != nil || i < 0 {
		return runs.Run{}, cmp.Or(err, errNotListed)
	}
	return past[i], nil
}

// lockLapses is longer than a lock of the environment is held after the last word of its owner.
const lockLapses = time.Hour

// releaseLocks releases the locks of the environment that runs held which ended while there was no agent.
func (c *fleet) releaseLocks(ctx context.Context) {
	past, err := c.runs.List(ctx, runs.Filter{Kind: "cron", Limit: 500})
	if err != nil {
		return // the locks lapse
	}
	for _, r := range past {
		slot, err := time.Parse(time.RFC3339Nano, r.Meta[metaLock])
		if err == nil && r.Lock != "" && !r.Live() && time.Since(r.Ended) < lockLapses {
			c.releaseLock(ctx, r, slot)
		}
	}
}

func (c *fleet) releaseLock(ctx context.Context, r runs.Run, slot time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s, err := c.openedAs(ctx, cmp.Or(r.Meta[metaLockIn], r.Meta[runs.MetaRegister]))
	if err != nil {
		return
	}
	h := &held{store: s, job: lockRegister(r.Lock), slot: slot}
	register, err := s.Read(ctx, h.job)
	holds := func(run claim.Run) bool {
		return run.Slot.Equal(slot) && run.Owner == s.Owner() && run.Outcome == "" && !s.Claimed(h.job, slot)
	}
	if err == nil && c.app.Facts().InstanceID != "" && slices.ContainsFunc(register.Runs, holds) {
		c.unlock(h)
	}
}
