package cron

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// finishLeftovers deals with slots that this instance claimed before a restart and whose outcome the register lacks.
// Those that have no run are logged: no other instance starts them, and a later slot stands for them at best. How runs
// ended while there was no agent is noted, and it reports whether any had. With owed a slot without a run is left to
// the scheduler, which still starts it, but not one that this instance has taken over: the newest of those is reported.
//
// However many the register lists, whoever wrote it: they cost one question, one line and one write.
func (c *fleet) finishLeftovers(ctx context.Context, s *groupStore, f scheduler.Firing, unfinished []claim.Run,
	owed bool) (noted bool) {
	ours := slices.DeleteFunc(slices.Clone(unfinished), func(r claim.Run) bool {
		ours := r.Owner == s.Owner() && !s.Claimed(f.Job.Name, r.Slot)
		return !ours || !r.Slot.Before(f.Due) || c.isResolved(f.Job.Name, r.Slot)
	})
	runOf := c.runsOf(ctx, f.Job.Name, ours)
	var ends []claim.End
	var forgotten []claim.Run
	for _, r := range ours {
		run, err := runOf(r)
		text := runs.Describe(run)
		switch {
		case errors.Is(err, runs.ErrUnknown) && (!owed || r.TakenFrom != ""):
			text = "not started: the agent was ended first"
			forgotten = append(forgotten, r)
		case err != nil || run.Live():
			continue
		}
		c.resolve(f.Job.Name, r.Slot)
		ends = append(ends, claim.End{Slot: r.Slot, Result: claim.Result{Attempt: r.Attempt, Outcome: text}})
	}
	if n := len(forgotten); n > 0 {
		c.log.Warn("claimed before a restart, and not started",
			"job", f.Job.Name, "due", forgotten[0].Slot, "claimed", forgotten[0].Claimed, "slots", n)
	}
	c.forgetResolved(f, unfinished)
	if len(ends) == 0 || c.app.Facts().InstanceID == "" { // the claims may be another's, of the same host name
		return false
	}
	if i := slices.IndexFunc(forgotten, func(r claim.Run) bool { return r.TakenFrom != "" }); i >= 0 {
		lost := claim.Run{Slot: forgotten[i].Slot, Owner: forgotten[i].TakenFrom, Outcome: claim.Interrupted}
		c.losses.missed(f.Job.Name, lost, "the agent that took it over ended before its start")
	}
	for _, e := range ends {
		s.Ended(f.Job.Name, e.Slot, e.Result)
	}
	newest := ends[0]
	c.outcomes.add(outcome{job: f.Job.Name, slot: newest.Slot, Result: newest.Result, others: ends[1:], store: s})
	return true
}

// leftoversOf notes how runs ended meanwhile of a job whose next claim is far: others would take them for lost.
func (c *fleet) leftoversOf(ctx context.Context, job scheduler.Job) {
	s, err := c.opened(ctx, time.Minute)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := s.Read(ctx, job.Name)
	if err != nil {
		return
	}
	unfinished := slices.DeleteFunc(r.Runs, func(run claim.Run) bool { return run.Outcome != "" })
	c.finishLeftovers(ctx, s, scheduler.Firing{Job: job, Due: time.Now()}, unfinished, true)
}

var errNotListed = errors.New("no run of that time is listed")

// mostListed is how many runs the supervisor is asked for at once.
const mostListed = 500

// runsOf asks the supervisor, once, for the runs of slots that this instance has claimed. A run that a user started has
// the time of this host in its id, and in its record the slot, which is the store's.
func (c *fleet) runsOf(ctx context.Context, job string, claimed []claim.Run) func(claim.Run) (runs.Run, error) {
	id := func(r claim.Run) string { return runs.SlotID(job, r.Slot, max(r.Attempt, 1)) }
	switch {
	case len(claimed) == 0:
		return nil
	case len(claimed) == 1 && !claimed[0].Manual:
		run, err := c.runs.Get(ctx, id(claimed[0]))
		return func(claim.Run) (runs.Run, error) { return run, err }
	}
	left := 0
	past, err := c.runs.List(ctx, runs.Filter{Kind: "cron", Name: job, Limit: mostListed, LeftOut: &left})
	known := make(map[string]runs.Run, len(past))
	for _, run := range past {
		known[run.ID] = run
	}
	reaches := func(slot time.Time) bool { // else its run may be one that is not listed
		all := left == 0 && len(past) < mostListed
		return all || len(past) > 0 && !slot.Before(past[len(past)-1].Slot)
	}
	return func(r claim.Run) (runs.Run, error) {
		if run, ok := known[id(r)]; ok && !r.Manual {
			return run, nil
		}
		i := slices.IndexFunc(past, func(run runs.Run) bool { return r.Manual && run.Slot.Equal(r.Slot) })
		switch {
		case err != nil:
			return runs.Run{}, err
		case i >= 0:
			return past[i], nil
		case r.Manual || !reaches(r.Slot):
			return runs.Run{}, errNotListed
		}
		return runs.Run{}, runs.ErrUnknown
	}
}

// lockLapses is longer than a lock of the environment is held after the last word of its owner.
const lockLapses = time.Hour

// releaseLocks releases the locks of the environment that runs held which ended while there was no agent.
func (c *fleet) releaseLocks(ctx context.Context) {
	past, err := c.runs.List(ctx, runs.Filter{Kind: "cron", Limit: 500})
	if err != nil {
		return // the locks lapse
	}
	for _, r := range past {
		slot, err := time.Parse(time.RFC3339Nano, r.Meta[metaLock])
		if err == nil && r.Lock != "" && !r.Live() && time.Since(r.Ended) < lockLapses {
			c.releaseLock(ctx, r, slot)
		}
	}
}

func (c *fleet) releaseLock(ctx context.Context, r runs.Run, slot time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	s, err := c.openedAs(ctx, cmp.Or(r.Meta[metaLockIn], r.Meta[runs.MetaRegister]))
	if err != nil {
		return
	}
	h := &held{store: s, job: lockRegister(r.Lock), slot: slot}
	register, err := s.Read(ctx, h.job)
	holds := func(run claim.Run) bool {
		return run.Slot.Equal(slot) && run.Owner == s.Owner() && run.Outcome == "" && !s.Claimed(h.job, slot)
	}
	if err == nil && c.app.Facts().InstanceID != "" && slices.ContainsFunc(register.Runs, holds) {
		c.unlock(h)
	}
}
