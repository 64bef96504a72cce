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

// adoptLive takes over the runs that an earlier process started and that still run.
func (c *Cron) adoptLive(ctx context.Context, t scheduler.Table) {
	live, err := c.cfg.Runs.List(ctx, runs.Filter{Live: true, Kind: "cron"})
	if err != nil && ctx.Err() == nil {
		c.log.Error("running jobs are not known", "err", err)
	}
	for _, r := range slices.Backward(live) { // the oldest first
		job, ok := t.Job(r.Name)
		if !ok {
			job = scheduler.Job{Name: r.Name, Location: time.UTC}
		}
		f := scheduler.Firing{Job: job, Due: r.Slot, Attempt: r.Attempt, Reason: scheduler.Reason(r.Reason),
			Started: r.Started}
		c.sched.Adopt(f, c.adopted(r))
	}
}

// adoptFailed takes over each job's last run if it failed and the job wants another attempt: it may have ended while
// there was no agent, or the agent ended in the pause before the retry. Slots older than the job's catch_up are left
// alone, and so are runs older than the host's last hundreds.
func (c *Cron) adoptFailed(ctx context.Context, t scheduler.Table) {
	if !slices.ContainsFunc(t.Jobs, func(j scheduler.Job) bool { return j.Retries > 0 || j.RetryOnLoss }) {
		return
	}
	past, err := c.cfg.Runs.List(ctx, runs.Filter{Kind: "cron", Limit: 500})
	if err != nil && ctx.Err() == nil {
		c.log.Error("runs to be tried again are not known", "err", err)
	}
	seen := map[string]bool{}
	for _, r := range past { // newest first
		if r.Reason == string(scheduler.Manual) || seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		job, ok := t.Job(r.Name)
		if ok && triedAgain(job, r) && c.cfg.Now().Sub(r.Slot) <= max(job.CatchUp, scheduler.DefaultCatchUp) {
			c.sched.Adopt(scheduler.Firing{Job: job, Due: r.Slot, Attempt: r.Attempt}, c.adopted(r))
		}
	}
}

// triedAgain reports whether a run that has ended is followed by another attempt, as the scheduler decides it.
func triedAgain(job scheduler.Job, r runs.Run) bool {
	limit := job.Retries
	switch {
	case r.Live(), r.ExitCode == 0, r.Attempt < 1, r.Reason == string(scheduler.Manual), r.Replaced():
		return false
	case r.State == runs.StateLost && !job.RetryOnLoss:
		return false
	case r.State == runs.StateLost, r.Interrupted() && job.RetryOnLoss:
		limit = max(limit, 1)
	}
	return r.Attempt <= limit
}

// adopted returns what waits for a run that exists already, in place of fire.
func (c *Cron) adopted(r runs.Run) func(context.Context, scheduler.Firing) error {
	return func(ctx context.Context, f scheduler.Firing) error {
		c.fleet.own(f)
		h, lock := c.fleet.adopt(f, r)
		defer h.keep(r.ID).release()
		defer lock.keep(r.ID).release()
		return c.await(ctx, r.ID, func() (runs.Run, error) { return c.cfg.Runs.Wait(ctx, r.ID) }, f, h, lock)
	}
}

// rerun starts a slot again whose run was lost with another instance, if no other does. Nothing is claimed while it
// would wait here: another instance may have room.
func (c *Cron) rerun(job scheduler.Job, lost claim.Run) {
	if why := c.sched.Blocked(job.Name); why != "" {
		c.log.Info("a lost slot does not run again here yet", "job", job.Name, "due", lost.Slot, "why", why)
		c.fleet.losses.lookIn(job, time.Minute)
		return
	}
	f := scheduler.Firing{Job: job, Due: lost.Slot, Attempt: max(lost.Attempt, 1) + 1,
		Why: "lost with " + printable(lost.Owner)}
	again := func(ctx context.Context, f scheduler.Firing) error {
		if err := c.eligible(ctx, f); err != nil {
			return err
		}
		h, attempt, err := c.fleet.takeOver(ctx, f)
		if isUnclaimed(err) { // a retry of this instance's would find the slot another's
			c.log.Info("a lost slot does not run again here yet", "job", job.Name, "due", f.Due, "err", err)
			c.fleet.losses.lookIn(job, time.Minute)
			return scheduler.ErrElsewhere
		}
		if err != nil {
			return err
		}
		f.Attempt = attempt
		c.log.Info("a lost slot runs again here", "job", job.Name, "due", f.Due, "why", f.Why)
		err = c.run(ctx, runs.SlotID(job.Name, f.Due, attempt), f, h, func(runs.Run) {})
		if errors.Is(err, scheduler.ErrDropped) && lost.Interrupted() { // a lost run has been reported
			c.reportMissed(job.Name, lost, err.Error())
		}
		return err
	}
	c.sched.Adopt(f, func(ctx context.Context, f scheduler.Firing) error { return c.fireBy(ctx, f, again) })
}
