package cron

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// pauseLimit is how long a user waits for the claim store.
const pauseLimit = 10 * time.Second

// Pause is `agent cron pause` and resume: on every instance that shares the job's register, or on this one where each
// runs it, or where the caller says here. A resume ends a pause of this instance, too.
func (c *Cron) Pause(ctx context.Context, caller api.Caller, job string, p api.CronPause) (api.CronPaused, error) {
	j, ok := c.jobNamed(job)
	if !ok {
		return api.CronPaused{}, wireError(fmt.Errorf("%w: %q", scheduler.ErrUnknownJob, job))
	}
	s, err := c.fleet.open()
	here := p.Here || j.On == scheduler.OnAll || errors.Is(err, errNoStore)
	out := api.CronPaused{Job: job, Paused: p.Paused, Here: here}
	if here || !p.Paused {
		if err := c.pauseHere(job, p.Paused); err != nil || here {
			return out, err
		}
	}
	if err == nil {
		err = c.pauseEverywhere(ctx, s, job, p.Paused, fmt.Sprintf("%s on %s", caller.Login, c.cfg.App.Name()))
	}
	if err != nil {
		return out, &api.Error{Status: http.StatusServiceUnavailable, Exit: 1, Message: err.Error(),
			Hint: "--here pauses and resumes it on this instance alone"}
	}
	c.log.Info("job paused or resumed on every instance", "job", job, "paused", p.Paused,
		"caller", caller.Login, "caller_uid", caller.UID)
	return out, nil
}

// jobNamed is a job as the scheduler has it.
func (c *Cron) jobNamed(name string) (scheduler.Job, bool) {
	for _, s := range c.sched.Snapshot() {
		if s.Job.Name == name && !s.Gone {
			return s.Job, true
		}
	}
	return scheduler.Job{}, false
}

func (c *Cron) pauseHere(job string, paused bool) error {
	if paused {
		return wireError(c.sched.Pause(job))
	}
	return wireError(c.sched.Resume(job))
}

func (c *Cron) pauseEverywhere(ctx context.Context, s *groupStore, job string, paused bool, by string) error {
	ctx, cancel := context.WithTimeout(ctx, pauseLimit)
	defer cancel()
	var p *claim.Pause
	if paused {
		p = &claim.Pause{By: by}
	}
	return s.SetPause(ctx, job, p)
}
