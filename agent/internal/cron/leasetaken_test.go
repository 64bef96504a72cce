package cron

import (
	"context"
	"errors"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/versity"
	"beanstalk-agent/scheduler"
)

// takes is a supervisor that answers each lease with the next of these.
type takes struct {
	ends
	answers []error
}

func (n *takes) RenewLease(context.Context, string, time.Duration, runs.BootTime) error {
	err := n.answers[0]
	n.answers = n.answers[1:]
	return err
}

// A run whose supervisor is gone is not kept in progress by the register: once the last lease that the supervisor took
// is over, it has ended the run, or went with it.
func TestRegisterIsNotRenewedWithoutASupervisor(t *testing.T) {
	t.Parallel()
	gone := errors.New("dial unix: connection refused")
	for name, c := range map[string]struct {
		answers []error // one for each renewal before the lease is over, and one after
		ends    bool
	}{
		"gone":                       {[]error{nil, gone, gone, nil}, true},
		"it is ending the run":       {[]error{runs.ErrLapsed, nil}, true},
		"back again":                 {[]error{gone, nil, nil}, false},
		"older, and keeps no leases": {[]error{runs.ErrNoLease, runs.ErrNoLease}, false},
	} {
		_, h, _, _ := heldAt(t, versity.Start(t, "bucket")[0], ours, func(*scheduler.Job) {})
		s := &takes{answers: c.answers}
		h.leases.runs = s
		for len(s.answers) > 1 {
			h.tryRenew(t.Context(), "run")
		}
		if h.lapses != 0 {
			h.lapses = runs.BootNow()
		}
		before, renewed := h.until, false
		h.tryRenew(t.Context(), "run")
		renewed = h.until != before
		if renewed == c.ends || errors.Is(h.why(), scheduler.ErrInterrupted) != c.ends || (len(s.ended) > 0) != c.ends {
			t.Errorf("%s: renewed %v, ended %v, %v, want it ended: %v", name, renewed, s.ended, h.why(), c.ends)
		}
	}
}
