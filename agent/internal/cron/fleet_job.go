package cron

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// fleet decides which instance runs a slot, of all that share a register: those of the environment, or of its group.
type fleet struct {
	setting  string // as Config.Claims
	group    func() (string, error)
	app      *app.App
	aws      *awsconf.AWS
	runs     Runs
	log      *slog.Logger
	outcomes *outcomes
	leases   *leases
	losses   *losses

	store atomic.Pointer[groupStore] // nil until the instance is identified

	mu   sync.Mutex
	jobs map[string]*fleetJob
	left map[string]time.Time // when each owner of slots that were left to it was logged
}

// fleetJob is what this process knows of a job's slots.
type fleetJob struct {
	owned    time.Time          // the slot that this instance has claimed last
	ended    time.Time          // the slot whose outcome this process has noted last
	served   time.Time          // the newest slot that this instance took over, or saw end well
	before   notify.Kind        // how the run before the owned slot ended, when another process reported it
	resolved map[time.Time]bool // slots claimed before our start that this process has already dealt with
	paused   time.Time          // since when, as logged last
}

// maxFleetJobs is twice what a table may have. What is forgotten is in the registers.
const maxFleetJobs = 20_000

// job returns what is known of a job. The caller holds mu.
func (c *fleet) job(name string) *fleetJob {
	j := c.jobs[name]
	if j == nil {
		if len(c.jobs) >= maxFleetJobs { // names come from a file that may have others each time it is read
			clear(c.jobs)
		}
		j = &fleetJob{resolved: map[time.Time]bool{}}
		c.jobs[name] = j
	}
	return j
}

// own notes that this instance has the slot, for the attempts that may follow.
func (c *fleet) own(f scheduler.Firing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.job(f.Job.Name).owned = f.Due
}

func (c *fleet) owns(f scheduler.Firing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.job(f.Job.Name).owned.Equal(f.Due)
}

// noteBefore keeps how the run before a slot just won ended, for the notice of a recovery from what failed on another
// instance, or before this process started. This process has reported the outcomes that it noted.
func (c *fleet) noteBefore(job string, before claim.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.job(job)
	if before.Outcome == runs.Good && !before.Manual && before.Slot.After(j.served) {
		j.served = before.Slot
	}
	switch {
	case before.Outcome == "", !before.Slot.After(j.ended):
		j.before = ""
	case before.Outcome == runs.Good:
		j.before = notify.Succeeded
	default:
		j.before = notify.Failed
	}
}

// outcomeBefore is how the run before the owned slot ended, if another process reported it. It is given once.
func (c *fleet) outcomeBefore(job string) notify.Kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.job(job)
	kind := j.before
	j.before = ""
	return kind
}

// Who has slots that are left to it is logged once an hour for each owner: all that shows that somebody claims in the
// name of an instance that there is not. No fleet has maxOwners; whoever makes names up is logged by the first of them.
const (
	ownerPause = time.Hour
	maxOwners  = 200
)

func (c *fleet) noteLeft(f scheduler.Firing, owner string) {
	owner = fmt.Sprintf("%.100s", owner)
	c.mu.Lock()
	maps.DeleteFunc(c.left, func(_ string, at time.Time) bool { return time.Since(at) >= ownerPause })
	_, noted := c.left[owner]
	noted = noted || len(c.left) >= maxOwners
	if !noted {
		c.left[owner] = time.Now()
	}
	c.mu.Unlock()
	if !noted {
		c.log.Info("slots are left to another instance", "owner", owner, "job", f.Job.Name, "due", f.Due)
	}
}

func (c *fleet) resolve(job string, slot time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.job(job).resolved[slot.UTC()] = true
}

func (c *fleet) isResolved(job string, slot time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.job(job).resolved[slot.UTC()]
}

// forgetResolved drops the slots that the register no longer calls unfinished.
func (c *fleet) forgetResolved(f scheduler.Firing, unfinished []claim.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for slot := range c.job(f.Job.Name).resolved {
		listed := slices.ContainsFunc(unfinished, func(r claim.Run) bool { return r.Slot.Equal(slot) })
		if slot.Before(f.Due) && !listed {
			delete(c.jobs[f.Job.Name].resolved, slot)
		}
	}
}
