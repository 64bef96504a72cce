package cron

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// runError is a job's run that ended badly.
type runError struct{ runs.Run }

func (e *runError) Error() string { return runs.Describe(e.Run) }

// Is makes the end of an interrupted run a scheduler.ErrInterrupted.
func (e *runError) Is(target error) bool {
	return target == scheduler.ErrInterrupted && e.Interrupted()
}

// fire is the scheduler's Runner: it runs a slot, and reports one that does not start, since no run can report it.
func (c *Cron) fire(ctx context.Context, f scheduler.Firing) error {
	return c.fireBy(ctx, f, c.runSlot)
}

func (c *Cron) fireBy(ctx context.Context, f scheduler.Firing, run runnerFunc) error {
	begun, record := false, f.Begun
	f.Begun = func() { begun = true; record() }
	err := run(ctx, f)
	switch {
	case begun, errors.Is(context.Cause(ctx), scheduler.ErrStopping): // else the next process owes it
	case errors.Is(err, scheduler.ErrDropped), errors.Is(err, scheduler.ErrChanged): // the scheduler's to report
	case !errors.Is(err, scheduler.ErrElsewhere):
		c.notStarted(f, err)
	case f.Reason == scheduler.Retry: // the one before has failed, and has not been reported
		c.notTriedAgain(ctx, f, err)
	case f.Coalesced > 0:
		c.log.Info("slots left to other instances",
			"job", f.Job.Name, "due", f.Due, "count", 1+f.Coalesced, "why", f.Why)
	}
	return err
}

// notTriedAgain reports the attempt before one that does not come. An instance that has taken the slot over reports it
// itself, and so does whoever finds that an interrupted slot is not run again.
func (c *Cron) notTriedAgain(ctx context.Context, f scheduler.Firing, err error) {
	c.log.Warn("job is not tried again", "job", f.Job.Name, "due", f.Due, "err", err)
	if left, ok := errors.AsType[*leftTo](err); ok && left.by.TakenFrom != "" {
		return
	}
	kind, what := notify.Failed, "failed"
	before, unknown := c.cfg.Runs.Get(ctx, runs.SlotID(f.Job.Name, f.Due, f.Attempt-1))
	if unknown == nil && before.Interrupted() {
		if rerunElsewhere(f.Job, before) {
			c.fleet.losses.lookIn(f.Job, 0)
			return
		}
		kind, what = notify.Missed, runs.Describe(before)
		c.counts.missed.Add(1)
	}
	c.notices.send(notify.Event{Job: f.Job.Name, Kind: kind, At: time.Now(),
		Reason: what + ", and is not tried again: " + err.Error()})
}

// runSlot claims a slot, starts its run, waits for the end and has it noted in the register. An error of type
// *runError is a run that ended badly; any other, one that could not start.
func (c *Cron) runSlot(ctx context.Context, f scheduler.Firing) error {
	if err := c.eligible(ctx, f); err != nil {
		return err
	}
	h, err := c.fleet.claim(ctx, f)
	if err != nil {
		return err
	}
	return c.run(ctx, runs.SlotID(f.Job.Name, f.Due, f.Attempt), f, h, func(runs.Run) {})
}

// run runs what has been claimed with h, and calls begun once it has.
func (c *Cron) run(ctx context.Context, id string, f scheduler.Firing, h *held, begun func(runs.Run)) error {
	defer h.keep(id).release()
	lock, err := c.fleet.lock(ctx, f)
	if err != nil {
		return c.notBegun(ctx, f, h, nil, err)
	}
	pair(h, lock)
	defer lock.keep(id).release()
	if waits(f, "its start"); f.Job.Lock != "" {
		waits(f, "the lock "+f.Job.Lock+" of this host")
	}
	run, ended, err := c.start(ctx, id, f, h, lock)
	if err != nil && !errors.Is(err, runs.ErrExists) { // which was started before the agent died, and not recorded
		return c.notBegun(ctx, f, h, lock, err)
	}
	if f.Coalesced > 0 && run.Reason != reason(f) { // that of an existing run is about its own slot
		c.log.Info("run stands for earlier slots, too", "run", id, "name", f.Job.Name, "why", reason(f))
	}
	f.Begun()
	begun(run)
	return c.await(ctx, id, ended, f, h, lock)
}

// notBegun gives back what was claimed for a run that does not begin. One whose job has changed is not tried anew: its
// slot counts as claimed.
func (c *Cron) notBegun(ctx context.Context, f scheduler.Firing, h, lock *held, err error) error {
	if h != nil && errors.Is(err, scheduler.ErrChanged) {
		err = fmt.Errorf("%w: %v", scheduler.ErrDropped, err)
	}
	c.noteEnd(ctx, f, h, "not started", err)
	c.fleet.unlock(lock)
	return err
}

// eligible says why this instance must not claim a slot: an instance that cannot start it must not take it from the
// others, nor one of a process type that was not known when the table was set.
func (c *Cron) eligible(ctx context.Context, f scheduler.Firing) error {
	if f.Job.On == scheduler.OnAll || c.fleet.owns(f) {
		return nil
	}
	if _, err := c.cfg.App.Env().Resolve(ctx); err != nil {
		return err
	}
	if why := f.Job.OffReason(hostConditions(c.cfg.App)); why != "" {
		c.log.Info("slot is not run in this environment", "job", f.Job.Name, "due", f.Due, "why", why)
		return scheduler.ErrElsewhere
	}
	return nil
}

// notStarted counts and reports a slot that does not run here, or one attempt at it.
func (c *Cron) notStarted(f scheduler.Firing, err error) {
	kind, n, why := notify.Failed, &c.counts.failed, err
	if isUnclaimed(err) {
		kind, n = notify.Overdue, &c.counts.overdue
	}
	if errors.Is(err, claim.ErrDenied) {
		why = claim.ErrDenied // the store has logged all of it, once
	}
	c.log.Warn("job not started",
		"job", f.Job.Name, "due", f.Due, "count", 1+f.Coalesced, "attempt", f.Attempt, "err", why)
	if errors.Is(err, scheduler.ErrReplaced) { // as its job wants it
		return
	}
	n.Add(1)
	if f.Final() {
		c.notices.send(notify.Event{Job: f.Job.Name, Kind: kind, At: time.Now(), Reason: "not started: " + err.Error()})
	}
}

// start starts the run; ended waits for its end, also where it exists already. While the supervisor keeps it for its
// lock it may be that it must not start: then it is taken back until it may.
func (c *Cron) start(ctx context.Context, id string, f scheduler.Firing, h, lock *held) (
	runs.Run, func() (runs.Run, error), error) {
	for deadline := time.Now().Add(lockWait(f)); ; {
		may, err := mayStart(ctx, f)
		if err = cmp.Or(err, h.why(), lock.why()); err != nil {
			return runs.Run{}, nil, err
		}
		o, req := c.request(ctx, id, f)
		req.LockWait = max(0, time.Until(deadline))
		h.request(&req, lock)
		begin, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(may, func() { cancel(context.Cause(may)) })
		run, ended, err := c.cfg.Begin(begin, o, req)
		if stop() && (err == nil || ctx.Err() == nil) {
			return run, ended, err
		}
		// The answer may have been on its way when it was taken back: what the supervisor does not deny may run.
		if err != nil {
			run, err = c.cfg.Runs.Get(context.WithoutCancel(ctx), id)
		}
		if !errors.Is(err, runs.ErrUnknown) {
			return run, func() (runs.Run, error) { return c.cfg.Runs.Wait(ctx, id) }, nil
		}
		if ctx.Err() != nil {
			return run, nil, context.Cause(ctx)
		}
	}
}

// request is the run of a slot, and the profile that its environment is made of.
func (c *Cron) request(ctx context.Context, id string, f scheduler.Firing) (appenv.ProfileOptions, runs.Request) {
	writer, _ := f.Job.Source.(appenv.Writer)
	o := appenv.ProfileOptions{Dir: f.Job.Dir, Extra: f.Job.Env, Writer: writer}
	if f.Job.URL != "" {
		o.Extra = append(slices.Clone(o.Extra), c.poster.env(ctx, f)...)
	}
	return o, runs.Request{ID: id, Kind: "cron", Name: f.Job.Name, Args: c.argv(f), IO: runs.IOSpool, Detached: true,
		Timeout: f.Job.Timeout, Grace: f.Job.Grace, MaxOutput: f.Job.MaxOutput, Lock: f.Job.Lock,
		Slot: f.Due, Attempt: f.Attempt, Reason: reason(f)}
}

func (c *Cron) argv(f scheduler.Firing) []string {
	switch {
	case f.Job.URL != "":
		return c.poster.argv(f)
	case len(f.Job.Args) > 0:
		return f.Job.Args
	}
	return command.Shell(f.Job.Command)
}

func reason(f scheduler.Firing) string {
	if f.Why == "" {
		return string(f.Reason)
	}
	return fmt.Sprintf("%s: %s", f.Reason, f.Why)
}

// await waits for the end of a slot's run and has it noted in the register.
func (c *Cron) await(ctx context.Context, id string, ended func() (runs.Run, error), f scheduler.Firing,
	h, lock *held) error {
	err := c.wait(ctx, id, ended)
	if why := cmp.Or(h.why(), lock.why()); err != nil && why != nil {
		err = why
	}
	h.release() // whose end is noted now
	lock.release()
	if errors.Is(context.Cause(ctx), scheduler.ErrStopping) {
		return err
	}
	outcome := runs.Good
	if err != nil {
		outcome = err.Error()
	}
	c.noteEnd(ctx, f, h, outcome, err)
	c.fleet.unlock(lock)
	return err
}

// noteEnd does nothing when the agent is stopping: the run continues under the supervisor, or the slot is owed, and the
// next process notes it.
func (c *Cron) noteEnd(ctx context.Context, f scheduler.Firing, h *held, outcome string, err error) {
	if errors.Is(context.Cause(ctx), scheduler.ErrStopping) {
		return
	}
	output := ""
	if ran, ok := errors.AsType[*runError](err); ok && c.cfg.ShareOutput {
		output = lastLines(ran.Run)
	}
	c.fleet.finish(f, h, outcome, output)
}

// wait returns when the run has ended. When the scheduler replaces the run it is stopped; when the agent stops it
// continues.
func (c *Cron) wait(ctx context.Context, id string, ended func() (runs.Run, error)) error {
	for done := ctx.Done(); ; {
		run, err := ended()
		switch {
		case err == nil && run.State == runs.StateLost:
			return scheduler.ErrLost
		case err == nil && run.ExitCode != 0:
			return &runError{run}
		case err == nil:
			return nil
		case errors.Is(context.Cause(ctx), scheduler.ErrReplaced):
			_, err = c.cfg.Runs.Interrupt(context.WithoutCancel(ctx), id, runs.StoppedReplaced)
			if err == nil || errors.Is(err, runs.ErrEnded) || errors.Is(err, runs.ErrUnknown) {
				return scheduler.ErrReplaced
			}
			done = nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, runs.ErrUnknown), errors.Is(err, fs.ErrNotExist):
			c.log.Warn("how a run ended cannot be known", "run", id, "err", err) // it may have no other line
			return scheduler.ErrLost
		}
		c.log.Warn("waiting for the supervisor", "run", id, "err", err)
		select { // it is being replaced, or died: systemd starts it again
		case <-done:
		case <-time.After(time.Second):
		}
	}
}
