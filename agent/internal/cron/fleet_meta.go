package cron

import (
	"cmp"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// In the Meta of a run, for the next process to renew its leases. The cron file may be another by then.
const (
	metaGrace   = "grace"         // that the run was started with
	metaLock    = "lock"          // the slot of the lock that it took in the environment
	metaLockIn  = "lock_register" // which has that
	metaLease   = "lease"         // "none": its slot has none
	metaUnheard = "unheard"       // what it does without a word from S3: "goes on", or "ends"
)

// request puts the lease, and what the next process needs to renew it, into a run's request.
func (h *held) request(r *runs.Request, lock *held) {
	r.Meta = map[string]string{}
	if lock != nil {
		r.Meta[metaLock] = lock.slot.Format(time.RFC3339Nano)
		r.Meta[metaLockIn] = lock.store.String()
	}
	if h != nil {
		r.Slot = h.slot
		r.Meta[runs.MetaRegister] = h.store.String()
		r.Meta[metaLease] = map[bool]string{true: "renewed", false: "none"}[h.hasLease()]
	}
	if h = cmp.Or(h, lock); h == nil {
		return
	}
	r.Meta[metaGrace] = h.grace.String()
	r.Meta[metaUnheard] = map[bool]string{true: "goes on", false: "ends"}[h.prefersRun]
	if until, _ := h.leaseUntil(); until != 0 && !h.prefersRun {
		r.LeaseFrom = runs.BootNow()
		r.Lease = max(1, time.Duration(until-r.LeaseFrom))
	}
}

// graceOf is the grace that a run was started with; one of an older agent's, as its job has it now.
func graceOf(r runs.Run, now time.Duration) time.Duration {
	if d, err := time.ParseDuration(r.Meta[metaGrace]); err == nil && d >= 0 {
		return d
	}
	return now
}
