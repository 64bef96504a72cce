package cron

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// Trigger is `agent cron run`: it returns the run as soon as it has started. The run does not end with ctx. It is
// refused while another instance runs the job, or that is not known, unless force says so.
func (c *Cron) Trigger(ctx context.Context, caller api.Caller, job string, force bool) (runs.Run, error) {
	type start struct {
		run runs.Run
		err error
	}
	started := make(chan start, 1)
	err := c.sched.Trigger(job, force, func(ctx context.Context, f scheduler.Firing) error {
		h, err := c.fleet.claimManual(ctx, f, force)
		if err != nil {
			started <- start{err: err}
			return scheduler.ErrElsewhere // it is no run that has failed
		}
		err = c.run(ctx, runs.ManualID(job, f.Due, f.Attempt), f, h, func(r runs.Run) { started <- start{run: r} })
		select {
		case started <- start{err: err}: // it has not begun
		default:
		}
		return err
	})
	if err != nil {
		return runs.Run{}, wireError(err)
	}
	c.log.Info("job triggered", "job", job, "force", force, "caller", caller.Login, "caller_uid", caller.UID)
	select {
	case s := <-started:
		return s.run, s.err
	case <-ctx.Done():
		return runs.Run{}, context.Cause(ctx)
	}
}

// claimManual enters a run that a user starts into the job's register, where other instances see it.
func (c *fleet) claimManual(ctx context.Context, f scheduler.Firing, force bool) (*held, error) {
	if f.Job.On == scheduler.OnAll {
		return nil, nil
	}
	waits(f, "S3")
	s, err := c.opened(ctx, manualWindow)
	if errors.Is(err, errNoStore) {
		return nil, nil
	}
	q := request(f)
	q.Manual, q.Force, q.Slot, q.Window, q.Attempt = true, force, time.Time{}, manualWindow, 1
	var out claim.Outcome
	if err == nil {
		out, err = s.Claim(ctx, q)
		c.losses.tell(s, f.Job, out.Expired, out.Missed)
	}
	hint := fmt.Sprintf("agent cron run --force %s runs it all the same", f.Job.Name)
	switch {
	case err != nil && force:
		c.log.Warn("run without a claim, as the user says", "job", f.Job.Name, "err", err)
		return nil, nil
	case err != nil:
		return nil, &api.Error{Status: http.StatusServiceUnavailable, Exit: 125, Hint: hint,
			Message: fmt.Sprintf("it is not known whether another instance runs %q: %v", f.Job.Name, err)}
	case out.State == claim.Won:
		return c.leases.hold(s, f, out.Run.Slot, out.LeaseUntil), nil
	}
	return nil, &api.Error{Status: http.StatusConflict, Exit: 125, Hint: hint,
		Message: fmt.Sprintf("%s runs %q since %s", where(out.By), f.Job.Name, clock(out.By.Claimed))}
}
