package cron

import (
	"errors"

	"beanstalk-agent/agent/internal/claim"
)

// errNoStore says why every instance runs every job.
var errNoStore = errors.New("no claim store")

// groupStore is the registers of one group; "" is the environment's own.
type groupStore struct {
	*claim.Store
	group string
}

// String names the registers, for the next process.
func (g *groupStore) String() string {
	if g.group != "" {
		return groupPrefix + g.group
	}
	return "environment"
}

const groupPrefix = "group "

// unclaimed is why a slot could be neither won nor lost.
type unclaimed struct{ error }

func (u unclaimed) Unwrap() error { return u.error }

func isUnclaimed(err error) bool { _, ok := errors.AsType[unclaimed](err); return ok }
