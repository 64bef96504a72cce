package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/scheduler"
)

// claims decides which instance of the environment runs a slot.
type claims struct {
	cfg  config.Config
	inst *platform.Instance
	aws  *awsconf.AWS
	made atomic.Pointer[claim.Store]                                   // once the instance's region and account are known
	find func(ctx context.Context, run string) (supervisor.Run, error) // what the supervisor knows
	log  *slog.Logger

	started time.Time
	before  sync.Map // of job to notify.Kind: how its last run ended, if that was not this agent's to tell
	seen    sync.Map // of a run's id: its slot was claimed in an earlier life, and this one starts it or has seen to its end
}

// unclaimed is why a slot could be neither won nor lost.
type unclaimed struct{ error }

func (u unclaimed) Unwrap() error { return u.error }

// errNoStore says why every instance runs every job.
var errNoStore = errors.New("no claim store")

func newClaims(cfg config.Config, inst *platform.Instance, aws *awsconf.AWS, runs *supervisor.Client, log *slog.Logger) *claims {
	return &claims{cfg: cfg, inst: inst, aws: aws, find: runs.Get, log: log, started: time.Now()}
}

// open returns the store, or why there is none. On Beanstalk an account that is
// not known yet is an error and not "no store": else every instance would run
// every job for as long as the metadata service does not answer.
func (c *claims) open() (*claim.Store, error) {
	if s := c.made.Load(); s != nil {
		return s, nil
	}
	f := c.inst.Facts()
	// The environment by its name alone: its id is not known on every instance at
	// every moment, and those with and without it would each run every slot.
	s := claim.Config{Bucket: claim.DefaultBucket(f.Region, f.AccountID), Region: f.Region, Environment: f.EnvironmentName,
		Owner: f.InstanceID, Credentials: c.aws.Credentials(), Endpoint: c.aws.S3Endpoint(), Client: c.aws.HTTPClient(), Logger: c.log}
	switch setting := c.cfg.Cron.Claims; {
	case setting == "off":
		return nil, fmt.Errorf("%w: cron.claims is off", errNoStore)
	case setting != "auto":
		var err error
		if s.Bucket, s.Prefix, err = claim.ParseURL(setting); err != nil {
			return nil, err
		}
		if s.Region == "" { // off EC2: as the agent's own environment says
			s.Region, _ = c.aws.Region(context.Background())
		}
	case !f.Beanstalk:
		return nil, fmt.Errorf("%w: this is no instance of an Elastic Beanstalk environment", errNoStore)
	case !located(f):
		return nil, errors.New("the instance's region, account or environment is not known, so neither is the claim store: the metadata service does not answer; cron.claims: off would let every instance run every job")
	}
	if s.Owner == "" && c.inst.AsksMetadata() { // by the host's name it would not be ours once we know the id
		return nil, errors.New("the instance's id is not known, so neither is in whose name to claim: the metadata service does not answer; AWS_EC2_METADATA_DISABLED=true in the agent's environment makes it the host's name")
	}
	if s.Owner == "" {
		s.Owner, _ = os.Hostname()
	}
	store, err := claim.New(s)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.inst.Identified():
		c.made.CompareAndSwap(nil, store)
		return c.made.Load(), nil
	default: // asked for to be shown; it may yet turn out who we are
		return store, nil
	}
}

func located(f platform.Facts) bool {
	return !f.Beanstalk || f.Region != "" && f.AccountID != "" && f.EnvironmentName != ""
}

// settled reports whether it is known where to claim and in whose name, or that no
// more will be known.
func (c *claims) settled(f platform.Facts) bool {
	if c.cfg.Cron.Claims == "auto" && !f.Beanstalk {
		return true // no store
	}
	return located(f) && (f.InstanceID != "" || !c.inst.AsksMetadata())
}

// Claim returns nil when this instance runs the slot.
func (c *claims) Claim(ctx context.Context, f scheduler.Firing) error {
	if f.Job.On == scheduler.OnAll {
		return nil
	}
	if c.cfg.Cron.Claims != "off" { // a slot claimed as another, by the host's name, would not be ours after a restart
		select {
		case <-c.inst.Identified():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.inst.Await(ctx, window(f), c.settled) // right after a boot the metadata service may come later than we
	}
	s, err := c.open()
	if errors.Is(err, errNoStore) {
		return nil
	}
	var out claim.Outcome
	if err == nil {
		out, err = s.Claim(ctx, f.Job.Name, f.Due, window(f))
		c.settle(ctx, s, f, out.Unfinished)
	}
	switch {
	case err != nil && f.Job.OnClaimError == scheduler.ClaimErrorRun:
		c.log.Warn("run without a claim, as the job says", "job", f.Job.Name, "due", f.Due, "err", err)
		return nil
	case err != nil:
		return unclaimed{err}
	case out.State == claim.Lost && s.Owner() == out.By.Owner && (out.By.Outcome == "" || f.Attempt > 1): // the attempt before has ended
		return c.again(f, out.By)
	case out.State == claim.Superseded:
		c.log.Warn("slot skipped: a newer one has been claimed", "job", f.Job.Name, "due", f.Due, "by", out.By.Owner)
		return scheduler.ErrElsewhere
	case out.State == claim.Lost:
		return scheduler.ErrElsewhere
	}
	c.note(f.Job.Name, out.Before, s.Owner())
	return nil
}

// note keeps how the run before the one just won ended, for people to hear of a
// recovery from what failed on another instance, or before this agent started.
func (c *claims) note(job string, before claim.Run, me string) {
	c.before.Delete(job)
	switch {
	case before.Outcome == "" || before.Owner == me && before.Finished.After(c.started):
	case before.Outcome == launch.Good:
		c.before.Store(job, notify.Succeeded)
	default:
		c.before.Store(job, notify.Failed)
	}
}

// told is how the run before a slot's ended, if that was not this agent's to tell. It is said once.
func (c *claims) told(job string) notify.Kind {
	k, _ := c.before.LoadAndDelete(job)
	kind, _ := k.(notify.Kind)
	return kind
}

// again is about a slot that this instance has claimed already, before it was
// killed or restarted. Its supervisor knows whether the run began, and does not
// start it a second time, so the claim holds. Where only the host's name tells
// instances apart, it may be another's of the same name.
func (c *claims) again(f scheduler.Firing, by claim.Run) error {
	if c.inst.Facts().InstanceID != "" {
		c.seen.Store(launch.SlotID(f.Job.Name, f.Due, 1), true)
		return nil
	}
	c.log.Warn("claimed before, by this host or one of its name: whether it ran is in that host's history", "job", f.Job.Name, "due", f.Due, "claimed", by.Claimed)
	return scheduler.ErrElsewhere
}

// settle looks after slots that this agent claimed before it was killed or restarted,
// and whose end the register does not have. One that could not start is told: no other
// instance will start it, and a later slot stands for it at best. How one ended while
// there was no agent is noted.
func (c *claims) settle(ctx context.Context, s *claim.Store, f scheduler.Firing, unfinished []claim.Run) {
	for _, r := range unfinished {
		id := launch.SlotID(f.Job.Name, r.Slot, 1)
		if _, done := c.seen.Load(id); done || r.Owner != s.Owner() || !r.Claimed.Before(c.started) || !r.Slot.Before(f.Due) {
			continue
		}
		run, err := c.find(ctx, id)
		outcome := launch.Describe(run)
		switch {
		case errors.Is(err, supervisor.ErrUnknown):
			outcome = "not started: the agent was ended first"
			c.log.Warn("claimed before a restart, and not started", "job", f.Job.Name, "due", r.Slot, "claimed", r.Claimed)
		case err != nil || run.Live():
			continue
		}
		c.seen.Store(id, true)
		if c.inst.Facts().InstanceID != "" { // else the claim may be another's, of the same host name
			go c.Finish(context.WithoutCancel(ctx), f.Job, r.Slot, outcome)
		}
	}
}

// window is how long a claim may take: a minute, or half the time to the next slot.
func window(f scheduler.Firing) time.Duration {
	gap := f.Job.Schedule.Next(f.Due).Sub(f.Due)
	return min(time.Minute, max(gap/2, 2*time.Second))
}

// Finish notes in the register how a slot's run ended, for all instances to see.
func (c *claims) Finish(ctx context.Context, job scheduler.Job, slot time.Time, outcome string) {
	if job.On == scheduler.OnAll {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := c.open()
	if err != nil {
		return
	}
	if err := s.Finish(ctx, job.Name, slot, outcome); err != nil && !errors.Is(err, claim.ErrNotRecorded) {
		c.log.Warn("the end of a run is not in its register", "job", job.Name, "err", err)
	}
}

// last fills in who ran a job's newest slot, on whichever instance.
func (c *claims) last(ctx context.Context, jobs []api.CronJob) {
	s, err := c.open()
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for i := range jobs[:min(len(jobs), 100)] {
		wg.Go(func() {
			r, err := s.Read(ctx, jobs[i].Name)
			if err != nil || len(r.Runs) == 0 {
				return
			}
			run := r.Runs[0]
			jobs[i].Host, jobs[i].Last, jobs[i].Result = run.Owner, &run.Slot, cmp.Or(run.Outcome, "started, not ended")
		})
	}
	wg.Wait()
}

// lines say who decides, and what is wrong with it.
func (c *claims) lines() []api.Line {
	s, err := c.open()
	if errors.Is(err, errNoStore) {
		if !c.inst.Facts().Beanstalk {
			return nil // one machine, no fleet
		}
		return []api.Line{api.NewLine("cron", api.Warn, "", "every instance runs every job: %v", err)}
	}
	if err != nil {
		return []api.Line{api.NewLine("cron", api.Bad, "", "%v", err)}
	}
	st := s.Status()
	state := api.Good
	if st.Failing {
		state = api.Bad
	}
	return []api.Line{api.NewLine("cron", state, "", "one instance runs each slot: %d left to others, %d skipped, %d neither won nor lost %s", st.Lost, st.Skipped, st.Missed, st.LastError)}
}
