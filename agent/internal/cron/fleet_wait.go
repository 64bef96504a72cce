package cron

import (
	"context"

	"log/slog"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// Between two looks at the register of a job that another instance runs.
const (
	firstLook = time.Second
	lastLook  = 15 * time.Second
)

// awaitFree returns nil once no run of the job is in progress, as far as the register shows, to claim then. A run of a
// later slot stands for the one that waits.
func awaitFree(ctx context.Context, log *slog.Logger, s *claim.Store, f scheduler.Firing, busy claim.Outcome) error {
	by, again := busy.By, busy.Again
	for wait := firstLook; ; wait = min(2*wait, lastLook) {
		waitsElsewhere(f, where(by)+", which runs it since "+clock(by.Claimed))
		if f.Job.Overlap == scheduler.Replace && by.ReplacedBy == "" {
			askToEnd(ctx, log, s, f, by)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(max(firstLook/2, min(wait, again))):
		}
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		r, err := s.Read(limited, f.Job.Name)
		cancel()
		if err != nil {
			if again -= wait; again <= 0 {
				return nil // the claim says what is wrong
			}
			continue
		}
		if later, ok := laterThan(r, f.Due); ok {
			log.Info("slot left to the run of a later one, which stands for it",
				"job", f.Job.Name, "due", f.Due, "later", later.Slot, "owner", later.Owner)
			return scheduler.ErrElsewhere
		}
		live := r.Live(s.Now())
		if len(live) == 0 {
			return nil
		}
		by, again = live[0], live[0].Until.Sub(s.Now())+time.Second
	}
}

func laterThan(r claim.Register, slot time.Time) (claim.Run, bool) {
	for _, run := range r.Runs {
		if !run.Manual && run.Slot.After(slot) {
			return run, true
		}
	}
	return claim.Run{}, false
}

// askToEnd asks the instance that runs the job to end it.
func askToEnd(ctx context.Context, log *slog.Logger, s *claim.Store, f scheduler.Firing, by claim.Run) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.AskToEnd(ctx, f.Job.Name, by.Nonce); err != nil {
		log.Warn("the run on another instance is not asked to end yet",
			"job", f.Job.Name, "owner", by.Owner, "err", err)
		return
	}
	log.Info("the run on another instance is asked to end for the next one",
		"job", f.Job.Name, "owner", by.Owner, "due", f.Due)
}
