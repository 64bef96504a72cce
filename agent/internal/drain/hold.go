package drain

import (
	"context"
	"net/http"
	"time"

	"beanstalk-agent/agent/internal/api"
)

// Undrain takes an operator's drain back. The other reasons stand until the instance is gone.
func (d *Drain) Undrain(context.Context) error {
	undrained := d.remove(Operator)
	if why, leaving := d.leaving(); leaving {
		return conflict("still draining, whatever operators wish: " + why)
	}
	if !undrained {
		return conflict("no operator has drained this instance")
	}
	return nil
}

// Hold holds cron starts, as a deployment does, unless they are held for good.
func (d *Drain) Hold(_ context.Context, limit time.Duration) error {
	d.holding.Lock()
	defer d.holding.Unlock()
	if _, leaving := d.leaving(); !leaving {
		d.cfg.Hold(limit)
	}
	return nil
}

// Release lets jobs start again. A deployment does this at its end, also on an instance that is leaving, where it is
// refused.
func (d *Drain) Release(context.Context) error {
	d.holding.Lock()
	defer d.holding.Unlock()
	if why, leaving := d.leaving(); leaving {
		return conflict("jobs stay held, for this instance goes away: " + why)
	}
	d.cfg.Release()
	return nil
}

// Leaving reports whether this machine shuts down or is terminated.
func (d *Drain) Leaving() bool {
	_, yes := d.leaving()
	return yes
}

// leaving returns why jobs are held for good: a reason that is no operator's.
func (d *Drain) leaving() (why string, yes bool) {
	for _, r := range d.Reasons() {
		if r.By != Operator {
			return r.Reason, true
		}
	}
	return "", false
}

func conflict(message string) error {
	return &api.Error{Status: http.StatusConflict, Message: message}
}

// Status is a line for each reason.
func (d *Drain) Status(context.Context) []api.Line {
	var lines []api.Line
	for _, r := range d.Reasons() {
		hint := ""
		if r.By == Operator {
			hint = "agent undrain"
		}
		lines = append(lines, api.NewLine("health", api.Warn, hint,
			"draining since %s, refused %s of a load balancer: %s",
			r.Since.Format(time.DateTime), api.Count(int(r.Refused), "check"), r.Reason))
	}
	return lines
}
