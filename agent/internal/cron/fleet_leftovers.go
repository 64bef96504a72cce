package cron

import (
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
		if !ours || r.Manual || !r.Slot.Before(f.Due) || c.isResolved(f.Job.Name, r.Slot) {
			continue
		}
		run, err := c.runs.Get(ctx, runs.SlotID(f.Job.Name, r.Slot, max(r.Attempt, 1)))
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
		_, err := c.runs.Get(ctx, runs.SlotID(job.Name, run.Slot, max(run.Attempt, 1)))
		return run.Outcome != "" || err != nil
	})
	c.finishLeftovers(ctx, s, scheduler.Firing{Job: job, Due: time.Now()}, unfinished)
}
