package cron

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// request is the claim of a firing's slot.
func request(f scheduler.Firing) claim.Request {
	wait := lockWait(f)
	if f.Job.LockScope == scheduler.LockEnvironment { // and then for the host's
		wait *= 2
	}
	return claim.Request{Job: f.Job.Name, Slot: f.Due, Window: window(f), Overlap: overlaps[f.Job.Overlap],
		LockWait: wait, Timeout: f.Job.Timeout, Grace: f.Job.Grace,
		Rerun: f.Job.OnOwnerLoss == scheduler.OwnerLossRerun, Attempt: f.Attempt, Command: commandHash(f.Job)}
}

var overlaps = map[scheduler.Overlap]claim.Overlap{scheduler.Skip: claim.Skip, scheduler.Queue: claim.Queue,
	scheduler.Replace: claim.Replace, scheduler.Allow: claim.Allow}

// commandHash tells jobs of one name apart that run something else. It does not give away what.
func commandHash(j scheduler.Job) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{j.Command, j.URL}, j.Args...), "\x00")))
	return hex.EncodeToString(sum[:8])
}

// window is how long a claim may take: a minute, or half the time to the next slot.
func window(f scheduler.Firing) time.Duration {
	if f.Job.Schedule == nil { // of a job that is not in the cron file any more
		return time.Minute
	}
	gap := f.Job.Schedule.Next(f.Due).Sub(f.Due)
	return min(time.Minute, max(gap/2, 2*time.Second))
}

// manualWindow is how long a user waits for the claim store.
const manualWindow = 10 * time.Second

// waits has the scheduler show what a start waits for.
func waits(f scheduler.Firing, what string) {
	if f.Waits != nil {
		f.Waits(what, false)
	}
}

// waitsElsewhere does so for what another instance does.
func waitsElsewhere(f scheduler.Firing, what string) {
	if f.Waits != nil {
		f.Waits(what, true)
	}
}

// mayStart asks, after each wait, whether the start may go on now; it waits while starts are held. The next wait is the
// context's that it returns: when that ends it is to be asked again.
func mayStart(ctx context.Context, f scheduler.Firing) (context.Context, error) {
	if f.MayStart == nil {
		return ctx, nil
	}
	return f.MayStart(ctx)
}

// maxLockWait is how long a job waits at most for a lock that an exec holds; as long as a missed slot of it may be
// caught up, if that is less.
const maxLockWait = 24 * time.Hour

// lockWait is how long a start waits for its lock, which an exec may hold. A user who waits is not kept waiting.
func lockWait(f scheduler.Firing) time.Duration {
	if f.Reason == scheduler.Manual {
		return 0
	}
	return min(f.Job.CatchUp, maxLockWait)
}
