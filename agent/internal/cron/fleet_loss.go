package cron

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// look is when the register of a job is read again: another instance runs it, and nobody else may notice when that one
// is gone.
type look struct {
	at  time.Time // on the monotonic clock
	job scheduler.Job
}

// Limits of looks: more than a fleet's jobs run at once; and requests when the agent starts.
const (
	maxLooks       = 1000
	looksAtStart   = 100
	nextClaimIsFar = 10 * time.Minute
)

// losses notices runs that were lost with their instance.
type losses struct {
	open   func() (*groupStore, error)
	report func(job string, r claim.Run)
	missed func(job string, r claim.Run, why string) // an interrupted one that is not run again
	told   func(s *groupStore, register string)      // notes in the register that what it had to report is
	log    *slog.Logger
	name   string // of this instance: others look at another time

	mu    sync.Mutex
	looks map[string]look // by job
	wake  chan struct{}   // there is a new one
}

// lookAt plans a look for when the lease of another instance's run is over, unless the job's next claim comes earlier.
func (c *losses) lookAt(job scheduler.Job, by claim.Run, now time.Time) {
	if by.Outcome != "" || by.Until.IsZero() || job.Schedule == nil {
		return
	}
	c.lookIn(job, by.Until.Sub(now)+time.Second)
}

func (c *losses) lookIn(job scheduler.Job, d time.Duration) {
	next := job.Schedule.Next(time.Now())
	if job.OnOwnerLoss != scheduler.OwnerLossReport || next.IsZero() || time.Until(next) >= d {
		c.plan(job, d)
	}
}

// whilePaused plans looks for the runs of a paused job: no claim looks at them.
func (c *losses) whilePaused(job scheduler.Job, unfinished []claim.Run, now time.Time) {
	for _, r := range unfinished {
		if !r.Until.IsZero() {
			c.plan(job, r.Until.Sub(now)+time.Second)
		}
	}
}

// plan plans a look.
func (c *losses) plan(job scheduler.Job, d time.Duration) {
	h := fnv.New32a() // the instances of a fleet one after the other: the first writes, the others read
	h.Write([]byte(c.name + "\x00" + job.Name))
	d += time.Duration(h.Sum32()%8000) * time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.looks) < maxLooks {
		c.looks[job.Name] = look{time.Now().Add(d), job}
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watch makes the looks that are due until ctx is done. rerun starts a lost slot again; it does not block.
func (c *losses) watch(ctx context.Context, rerun func(scheduler.Job, claim.Run)) {
	for ctx.Err() == nil {
		l, wait := c.nextLook()
		if wait > 0 {
			select {
			case <-ctx.Done():
			case <-c.wake:
			case <-time.After(wait):
			}
			continue
		}
		c.look(ctx, l.job, rerun)
	}
}

// nextLook takes the look that is due, or says how long none is.
func (c *losses) nextLook() (next look, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait = time.Hour
	for _, l := range c.looks {
		if d := time.Until(l.at); d < wait {
			next, wait = l, d
		}
	}
	if wait <= 0 {
		delete(c.looks, next.job.Name)
	}
	return next, wait
}

// mostLost is how many runs of one register are reported as lost at once: no agent lists more.
const mostLost = 16

// tell reports what this instance has written into the register of others' runs, and has that noted there: no other
// reports it, unless this one ends before.
func (c *losses) tell(s *groupStore, job scheduler.Job, lost, missed []claim.Run) {
	c.lost(job, lost)
	for _, run := range missed {
		c.missed(job.Name, run, cmp.Or(whyNotAgain(job, run, s.Now()), "a later slot has come due"))
	}
	if len(lost)+len(missed) > 0 {
		c.told(s, job.Name)
	}
}

func (c *losses) lost(job scheduler.Job, lost []claim.Run) {
	for i, r := range lost {
		if i == mostLost {
			c.log.Warn("a register lists more lost runs than any agent writes: the others are not reported",
				"job", job.Name, "runs", len(lost)-i)
			break
		}
		c.report(job.Name, r)
	}
	if len(lost) > 0 && job.OnOwnerLoss == scheduler.OwnerLossRerun {
		c.lookIn(job, 0)
	}
}

// look notes and reports runs whose owner is gone.
func (c *losses) look(ctx context.Context, job scheduler.Job, rerun func(scheduler.Job, claim.Run)) {
	s, err := c.open()
	if err != nil {
		if !errors.Is(err, errNoStore) {
			c.lookIn(job, time.Minute)
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	lost, missed, again, err := s.NoteLost(ctx, job.Name)
	c.tell(s, job, lost, missed)
	switch {
	case err != nil && context.Cause(ctx) != context.Canceled:
		c.lookIn(job, time.Minute)
	case again > 0:
		c.lookIn(job, again)
	}
	if err != nil || job.OnOwnerLoss != scheduler.OwnerLossRerun {
		return
	}
	r, err := s.Read(ctx, job.Name)
	if err != nil {
		return
	}
	later := false
	for _, run := range r.Runs {
		if run.Manual {
			continue
		}
		why := whyNotAgain(job, run, s.Now())
		if later { // which stands for those before it
			why = cmp.Or(why, "a later slot has come due")
		}
		switch {
		case run.LostBy == "" && !run.Interrupted():
		case why == "":
			rerun(job, run)
		default:
			c.noteMissed(ctx, s, job, run, why)
		}
		later = true
	}
}

// ownLook is when an instance looks at a run of its own that was interrupted. Others have looked by then, if there are
// any: its lease has passed.
const ownLook = 3 * claim.RenewEvery

// rerunElsewhere reports whether instances look for an interrupted run in its register, to run its slot again.
func rerunElsewhere(job scheduler.Job, r runs.Run) bool {
	_, claimed := r.Meta[runs.MetaRegister]
	return claimed && r.Reason != string(scheduler.Manual) && job.On != scheduler.OnAll &&
		job.OnOwnerLoss == scheduler.OwnerLossRerun
}

// noteMissed reports a run that was interrupted and is not run again, unless another instance has. A lost one has been
// reported when its loss was noted.
func (c *losses) noteMissed(ctx context.Context, s *groupStore, job scheduler.Job, run claim.Run, why string) {
	if !run.Interrupted() {
		return
	}
	noted, err := s.NoteMissed(ctx, job.Name, run.Slot)
	switch {
	case err != nil:
		c.lookIn(job, time.Minute)
	case noted:
		c.missed(job.Name, run, why)
		c.told(s, job.Name)
	}
}

// whyNotAgain says why a slot is not run again, though its run is gone; "" when it may be. A slot that was never due is
// not: whoever may write the bucket could have the job run at any time.
func whyNotAgain(job scheduler.Job, r claim.Run, now time.Time) string {
	switch age := now.Sub(r.Slot); {
	case r.TakenFrom != "":
		return "it has been run again once"
	case age > max(job.CatchUp, scheduler.DefaultCatchUp):
		return "it is older than catch_up allows"
	case age < 0, !job.Schedule.Next(r.Slot.Add(-time.Second)).Equal(r.Slot):
		return "the job's schedule does not have it"
	}
	return ""
}

// atStart are the jobs to look at when the agent starts, for runs that were lost with an instance that this one
// replaces, or while no other was there: those whose next claim is far, or that run again.
func atStart(t scheduler.Table) (jobs []scheduler.Job) {
	for _, j := range t.Jobs {
		far := time.Until(j.Schedule.Next(time.Now())) > nextClaimIsFar
		if j.On != scheduler.OnAll && len(jobs) < looksAtStart && (far || j.OnOwnerLoss == scheduler.OwnerLossRerun) {
			jobs = append(jobs, j)
		}
	}
	return jobs
}
