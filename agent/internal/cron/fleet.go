package cron

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// fleet decides which instance of the environment runs a slot.
type fleet struct {
	setting  string // as Config.Claims
	app      *app.App
	aws      *awsconf.AWS
	find     func(ctx context.Context, id string) (runs.Run, error) // the supervisor's record of a run
	log      *slog.Logger
	outcomes *outcomes

	store atomic.Pointer[claim.Store] // nil until the instance is identified

	mu   sync.Mutex
	jobs map[string]*fleetJob
	left map[string]time.Time // when each owner of slots that were left to it was logged
}

// fleetJob is what this process knows of a job's slots.
type fleetJob struct {
	owned    time.Time          // the slot that this instance has claimed last
	ended    time.Time          // the slot whose outcome this process has noted last
	before   notify.Kind        // how the run before the owned slot ended, when another process reported it
	resolved map[time.Time]bool // slots claimed before our start that this process has already dealt with
}

// unclaimed is why a slot could be neither won nor lost.
type unclaimed struct{ error }

func (u unclaimed) Unwrap() error { return u.error }

func isUnclaimed(err error) bool { _, ok := errors.AsType[unclaimed](err); return ok }

// errNoStore says why every instance runs every job.
var errNoStore = errors.New("no claim store")

// CheckClaims reports what is wrong with the setting of cron.claims.
func CheckClaims(setting string) error {
	if setting == "auto" || setting == "off" {
		return nil
	}
	_, _, err := claim.ParseURL(setting)
	return err
}

func newFleet(cfg Config) *fleet {
	f := &fleet{setting: cfg.Claims, app: cfg.App, aws: cfg.AWS, find: cfg.Runs.Get, log: cfg.Log,
		jobs: map[string]*fleetJob{}, left: map[string]time.Time{}}
	f.outcomes = newOutcomes(f.record, cfg.Log)
	return f
}

// open returns the store, or why there is none. On Beanstalk an account that is not known yet is an error and not "no
// store": every instance would run every job for as long as the metadata service does not answer.
func (c *fleet) open() (*claim.Store, error) {
	if s := c.store.Load(); s != nil {
		return s, nil
	}
	s, err := c.config()
	if err != nil {
		return nil, err
	}
	store, err := claim.New(s)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.app.Instance().Identified():
		c.store.CompareAndSwap(nil, store)
		return c.store.Load(), nil
	default: // only for display: the instance may yet turn out to be another
		return store, nil
	}
}

func (c *fleet) config() (claim.Config, error) {
	f := c.app.Facts()
	// The environment by its name alone: its id is not known on every instance at every moment, and instances with and
	// without it would each run every slot.
	s := claim.Config{Bucket: claim.DefaultBucket(f.Region, f.AccountID), Region: f.Region,
		Environment: f.EnvironmentName, Owner: f.InstanceID, Credentials: c.aws.Credentials(),
		Endpoint: c.aws.S3Endpoint(), Client: c.aws.HTTPClient(), Logger: c.log}
	switch {
	case c.setting == "off":
		return s, fmt.Errorf("%w: cron.claims is off", errNoStore)
	case c.setting != "auto":
		var err error
		if s.Bucket, s.Prefix, err = claim.ParseURL(c.setting); err != nil {
			return s, err
		}
		if s.Region == "" { // off EC2: as the agent's own environment says
			s.Region, _ = c.aws.Region(context.Background())
		}
	case !f.Beanstalk:
		return s, fmt.Errorf("%w: this is no instance of an Elastic Beanstalk environment", errNoStore)
	case !located(f):
		return s, errors.New("the instance's region, account or environment is not known, so neither is the claim " +
			"store: the metadata service does not answer; cron.claims: off would let every instance run every job")
	}
	if s.Owner == "" && c.app.Instance().AsksMetadata() { // a claim by the host's name is not ours once the id is known
		return s, errors.New("the instance's id is not known, so neither is in whose name to claim: the metadata " +
			"service does not answer; AWS_EC2_METADATA_DISABLED=true in the agent's environment makes it " +
			"the host's name")
	}
	if s.Owner == "" {
		s.Owner, _ = os.Hostname()
	}
	return s, nil
}

func located(f platform.Facts) bool {
	return !f.Beanstalk || f.Region != "" && f.AccountID != "" && f.EnvironmentName != ""
}

// identified reports whether it is known where to claim and in whose name, or that no more will be known.
func (c *fleet) identified(f platform.Facts) bool {
	if c.setting == "auto" && !f.Beanstalk {
		return true // no store
	}
	return located(f) && (f.InstanceID != "" || !c.app.Instance().AsksMetadata())
}

// claim returns nil when this instance runs the slot, scheduler.ErrElsewhere when another does, and an unclaimed error
// when neither is known. All attempts at a slot share one claim.
func (c *fleet) claim(ctx context.Context, f scheduler.Firing) error {
	if f.Job.On == scheduler.OnAll || c.owns(f) {
		return nil
	}
	if c.setting != "off" { // a slot claimed by the host's name would be another's after a restart
		inst := c.app.Instance()
		select {
		case <-inst.Identified():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		inst.Await(ctx, window(f), c.identified) // right after a boot the metadata service may answer later
	}
	err := c.ask(ctx, f)
	switch {
	case err == nil, errors.Is(err, errNoStore):
		c.own(f)
		return nil
	case isUnclaimed(err) && f.Job.OnClaimError == scheduler.ClaimErrorRun:
		c.log.Warn("run without a claim, as the job says", "job", f.Job.Name, "due", f.Due, "err", err)
		c.own(f)
		return nil
	}
	return err
}

// ask claims the slot in its register.
func (c *fleet) ask(ctx context.Context, f scheduler.Firing) error {
	s, err := c.open()
	if errors.Is(err, errNoStore) {
		return err
	}
	var out claim.Outcome
	if err == nil {
		q := claim.Request{Job: f.Job.Name, Slot: f.Due, Window: window(f), Overlap: claim.Allow}
		out, err = s.Claim(ctx, q)
		c.finishLeftovers(ctx, s, f, out.Unfinished)
	}
	switch mine := out.State == claim.Lost && s.Owner() == out.By.Owner; {
	case err != nil:
		return unclaimed{err}
	case mine && (out.By.Outcome == "" || f.Attempt > 1): // the attempt before has ended
		return c.reclaim(f, out.By)
	case out.State == claim.Superseded:
		c.log.Warn("slot skipped: a newer one has been claimed", "job", f.Job.Name, "due", f.Due, "by", out.By.Owner)
		return scheduler.ErrElsewhere
	case out.State == claim.Lost:
		c.noteLeft(f, out.By.Owner)
		return scheduler.ErrElsewhere
	}
	c.noteBefore(f.Job.Name, out.Before)
	return nil
}

// reclaim handles a slot that this instance claimed before a restart. The supervisor deduplicates by run id, so
// starting it again is safe. Where instances differ only by host name, the claim may be another's of that name.
func (c *fleet) reclaim(f scheduler.Firing, by claim.Run) error {
	if c.app.Facts().InstanceID != "" {
		c.resolve(f.Job.Name, f.Due)
		return nil
	}
	c.log.Warn("claimed before, by this host or one of its name: whether it ran is in that host's history",
		"job", f.Job.Name, "due", f.Due, "claimed", by.Claimed)
	return scheduler.ErrElsewhere
}

// finishLeftovers deals with slots that this instance claimed before a restart and whose outcome the register lacks.
// One that has no run is logged: no other instance starts it, and a later slot stands for it at best. The outcome of a
// run that ended while there was no agent is noted.
func (c *fleet) finishLeftovers(ctx context.Context, s *claim.Store, f scheduler.Firing, unfinished []claim.Run) {
	for _, r := range unfinished {
		ours := r.Owner == s.Owner() && !s.Claimed(f.Job.Name, r.Slot)
		if !ours || !r.Slot.Before(f.Due) || c.isResolved(f.Job.Name, r.Slot) {
			continue
		}
		run, err := c.find(ctx, runs.SlotID(f.Job.Name, r.Slot, 1))
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
			c.outcomes.add(outcome{f.Job.Name, r.Slot, text})
		}
	}
	c.forgetResolved(f, unfinished)
}

// window is how long a claim may take: a minute, or half the time to the next slot.
func window(f scheduler.Firing) time.Duration {
	gap := f.Job.Schedule.Next(f.Due).Sub(f.Due)
	return min(time.Minute, max(gap/2, 2*time.Second))
}

// finish has the register note how a slot's run ended, for all instances to see.
func (c *fleet) finish(job scheduler.Job, slot time.Time, text string) {
	if job.On == scheduler.OnAll {
		return
	}
	c.mu.Lock()
	c.job(job.Name).ended = slot
	c.mu.Unlock()
	c.outcomes.add(outcome{job.Name, slot, text})
}

// record writes an outcome into its register.
func (c *fleet) record(ctx context.Context, o outcome) {
	s, err := c.open()
	if err != nil {
		return
	}
	err = s.Finish(ctx, o.job, o.slot, claim.Result{Outcome: o.text})
	if err != nil && !errors.Is(err, claim.ErrNotRecorded) {
		c.log.Warn("the end of a run is not in its register", "job", o.job, "due", o.slot, "err", err)
	}
}

// status says how instances agree, and what is wrong with that.
func (c *fleet) status() []api.Line {
	s, err := c.open()
	if errors.Is(err, errNoStore) {
		if !c.app.Facts().Beanstalk {
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
	return []api.Line{api.NewLine("cron", state, "", "one instance runs each slot: %d left to others, %d skipped, "+
		"%d neither won nor lost %s", st.Lost, st.Skipped, st.Missed, st.LastError)}
}
