package cron

import (
	"context"
	"fmt"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// served notes a slot that this instance has taken over, or has seen end well: neither it nor an older one is taken
// over here any more, whatever its register says.
func (c *fleet) served(job string, slot time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.job(job); slot.After(j.served) {
		j.served = slot
	}
}

func (c *fleet) isServed(job string, slot time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slot.After(c.job(job).served)
}

// notServed is an error where this instance knows better than the register that a slot is not to be run again: by its
// own memory, and by the supervisor's records, which outlive the agent.
func (c *fleet) notServed(ctx context.Context, s *groupStore, f scheduler.Firing) error {
	past, err := c.runs.List(ctx, runs.Filter{Kind: "cron", Name: f.Job.Name, Limit: 500})
	if err != nil {
		c.losses.lookIn(f.Job, time.Minute)
		return unclaimed{fmt.Errorf("whether the slot has run here is not known: %w", err)}
	}
	for _, r := range past {
		if r.Reason != string(scheduler.Manual) && (wasTakenOver(r) || runs.Describe(r) == runs.Good) {
			c.served(f.Job.Name, r.Slot)
		}
	}
	if !c.isServed(f.Job.Name, f.Due) {
		return nil
	}
	const why = "it has been run again here, or ended well, though its register does not say so"
	c.log.Warn("a slot is not run again: look who may write its register", "job", f.Job.Name, "due", f.Due, "why", why)
	c.losses.noteMissed(ctx, s, f.Job, claim.Run{Slot: f.Due, Outcome: claim.Interrupted}, why)
	return scheduler.ErrElsewhere
}

// wasTakenOver reports whether a run was started by rerun: of no other is the reason that it was adopted.
func wasTakenOver(r runs.Run) bool { return strings.HasPrefix(r.Reason, string(scheduler.Adopted)) }
