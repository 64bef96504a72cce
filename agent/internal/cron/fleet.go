package cron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// leftTo is why a slot is not this instance's: another has it, or has paused the job.
type leftTo struct {
	by     claim.Run
	paused *claim.Pause
}

func (e *leftTo) Error() string {
	if e.paused != nil {
		return fmt.Sprintf("%s has paused the job since %s", printable(e.paused.By), clock(e.paused.Since))
	}
	return where(e.by) + " has run it, or runs it"
}

// Is makes it a scheduler.ErrElsewhere.
func (e *leftTo) Is(target error) bool { return target == scheduler.ErrElsewhere }

func newFleet(cfg Config) *fleet {
	f := &fleet{setting: cfg.Claims, app: cfg.App, aws: cfg.AWS, runs: cfg.Runs, log: cfg.Log,
		group:  func() (string, error) { return cfg.Group, nil },
		leases: &leases{runs: cfg.Runs, log: cfg.Log, held: map[*held]bool{}},
		jobs:   map[string]*fleetJob{}, left: map[string]time.Time{}}
	f.losses = &losses{open: f.open, log: cfg.Log, name: cfg.App.Name(), report: func(string, claim.Run) {},
		missed: func(string, claim.Run, string) {}, told: f.noteTold,
		looks: map[string]look{}, wake: make(chan struct{}, 1)}
	f.outcomes = newOutcomes(f.record, cfg.Log)
	return f
}

// claim returns nil when this instance runs the slot, scheduler.ErrElsewhere when another does, and an unclaimed error
// when neither is known. What it returns with nil is the claim, to be kept while the run goes on; nil where there is no
// store, or none can be asked and the job runs all the same.
func (c *fleet) claim(ctx context.Context, f scheduler.Firing) (*held, error) {
	if f.Job.On == scheduler.OnAll {
		return nil, nil
	}
	if c.setting != "off" {
		waits(f, "S3")
	}
	h, err := c.ask(ctx, f)
	if errors.Is(err, errNoStore) {
		err = nil
	}
	if isUnclaimed(err) && f.Job.OnClaimError == scheduler.ClaimErrorRun {
		c.log.Warn("run without a claim, as the job says", "job", f.Job.Name, "due", f.Due, "err", err)
		err = nil
	}
	if err == nil {
		c.own(f)
	}
	return h, err
}

// ask claims the slot in its register, which may be another after a wait. It waits where the job's overlap policy does.
func (c *fleet) ask(ctx context.Context, f scheduler.Firing) (*held, error) {
	for again := true; ; {
		may, err := mayStart(ctx, f)
		if err != nil {
			return nil, err
		}
		s, err := c.opened(ctx, window(f))
		switch {
		case errors.Is(err, errNoStore):
			return nil, errNoStore
		case err != nil:
			return nil, unclaimed{err}
		case may.Err() != nil && ctx.Err() == nil:
			continue
		}
		out, err := s.Claim(ctx, request(f))
		c.losses.tell(s, f.Job, out.Expired, out.Missed)
		noted := c.finishLeftovers(ctx, s, f, out.Unfinished, false)
		switch {
		case err != nil:
			return nil, unclaimed{err}
		case out.State == claim.Busy && noted && again: // it was our own, and has ended
			again = false
		case out.State == claim.Busy && waitsForOthers(f):
			if err := awaitFree(may, c.log, s.Store, f, out); err != nil && may.Err() == nil {
				return nil, err
			}
		default:
			return c.decided(ctx, s, f, out)
		}
	}
}

func waitsForOthers(f scheduler.Firing) bool {
	return f.Job.Overlap == scheduler.Queue || f.Job.Overlap == scheduler.Replace
}

// decided acts on the answer to a claim.
func (c *fleet) decided(ctx context.Context, s *groupStore, f scheduler.Firing, out claim.Outcome) (*held, error) {
	job := f.Job.Name
	c.notePaused(job, out.Paused)
	switch {
	case out.State == claim.Won:
		c.noteBefore(job, out.Before)
		return c.leases.hold(s, f, out.Run.Slot, out.LeaseUntil), nil
	case out.State == claim.Lost && s.Owner() == out.By.Owner && out.By.Outcome == "" &&
		max(out.By.Attempt, 1) == max(f.Attempt, 1): // else the slot runs again here
		return c.reclaim(ctx, s, f, out.By)
	case out.State == claim.Lost:
		c.noteLeft(f, out.By.Owner)
		c.losses.lookAt(f.Job, out.By, s.Now())
		return nil, &leftTo{by: out.By}
	case out.State == claim.Paused:
		c.losses.whilePaused(f.Job, out.Unfinished, s.Now())
		return nil, &leftTo{paused: out.Paused}
	case out.State == claim.Busy:
		c.losses.lookAt(f.Job, out.By, s.Now())
		return nil, &scheduler.RunsElsewhere{By: where(out.By), Since: out.By.Claimed}
	case out.State == claim.Superseded:
		c.log.Warn("slot skipped: a newer one has been claimed", "job", job, "due", f.Due, "by", out.By.Owner)
	}
	return nil, scheduler.ErrElsewhere
}

// reclaim handles a slot that this instance claimed before a restart: it renews the lease, which another may have taken
// for over. The supervisor deduplicates by run id, so starting it again is safe. Where instances differ only by host
// name, the claim may be another's of that name.
func (c *fleet) reclaim(ctx context.Context, s *groupStore, f scheduler.Firing, by claim.Run) (*held, error) {
	if c.app.Facts().InstanceID == "" {
		c.log.Warn("claimed before, by this host or one of its name: whether it ran is in that host's history",
			"job", f.Job.Name, "due", f.Due, "claimed", by.Claimed)
		return nil, scheduler.ErrElsewhere
	}
	h := c.leases.hold(s, f, by.Slot, 0)
	limited, cancel := context.WithTimeout(ctx, window(f))
	defer cancel()
	switch _, err := h.renew(limited); {
	case errors.Is(err, claim.ErrNotRecorded):
		c.log.Warn("claimed before a restart, and no longer: it does not run here",
			"job", f.Job.Name, "due", f.Due, "err", err)
		return nil, scheduler.ErrElsewhere
	case err != nil:
		return nil, unclaimed{err}
	}
	c.resolve(f.Job.Name, f.Due)
	return h, nil
}

// notePaused logs when a job's slots begin to be left out since somebody has paused it everywhere, and when that ends.
func (c *fleet) notePaused(job string, p *claim.Pause) {
	since := time.Time{}
	if p != nil {
		since = p.Since
	}
	c.mu.Lock()
	was := c.job(job).paused
	c.job(job).paused = since
	c.mu.Unlock()
	switch {
	case since.Equal(was):
	case p == nil:
		c.log.Info("job is no longer paused", "job", job)
	default:
		c.log.Info("job is paused: its slots are left out", "job", job, "by", p.By, "since", since)
	}
}
