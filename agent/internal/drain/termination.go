package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	pollInterval   = 5 * time.Second  // as AWS advises for spot notices
	maxAbsentPause = 5 * time.Minute  // where there never was an answer
	maxFailPause   = 60 * time.Second // where there was one before
)

// Run asks for termination notices every five seconds until ctx is done, and drains at each. While the metadata service
// does not answer it asks ever more rarely, in the end once in five minutes; that is not an error.
func (d *Drain) Run(ctx context.Context) error {
	if d.cfg.Metadata == nil {
		return nil
	}
	pause, answered, quiet := d.interval, false, false
	for ctx.Err() == nil {
		err := d.poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if !answered || quiet {
				d.log.Info("watching for termination notices")
			}
			pause, answered, quiet = d.interval, true, false
		default:
			if !quiet {
				d.log.Info("termination notices are not watched", "err", err)
			}
			quiet = true
			pause = min(2*pause, longestPause(answered))
		}
		sleep(ctx, pause)
	}
	return nil
}

func longestPause(answered bool) time.Duration {
	if answered {
		return maxFailPause
	}
	return maxAbsentPause
}

// poll asks for both kinds of notice, also where one of them fails. No notice is no error.
func (d *Drain) poll(ctx context.Context) error {
	state, err := d.cfg.Metadata(ctx, "meta-data/autoscaling/target-lifecycle-state")
	// Only Terminated is a notice. Standby and Detached are no end: Beanstalk detaches the healthy
	// instances of an immutable deployment to attach them to another group, and Auto Scaling takes
	// an instance out of its target groups by itself in either case.
	if state == "Terminated" {
		d.notice("autoscaling", state, "Auto Scaling terminates this instance")
	}
	action, spotErr := d.cfg.Metadata(ctx, "meta-data/spot/instance-action")
	if reason := spotNotice(action); reason != "" {
		d.notice("spot", action, reason)
	}
	return errors.Join(err, spotErr)
}

// spotNotice reads {"action":"terminate","time":"2026-11-22T08:22:00Z"}. Any other answer is no notice: a page of a
// service that stands in for the metadata must not take the instance out of service.
func spotNotice(body string) (reason string) {
	var notice struct{ Action, Time string }
	_ = json.Unmarshal([]byte(body), &notice) // a time that is no text does not spoil the action
	if notice.Action == "" {
		return ""
	}
	reason = fmt.Sprintf("EC2 takes this spot instance back: %.20q", notice.Action)
	if at, err := time.Parse(time.RFC3339, notice.Time); err == nil {
		reason += " at " + at.UTC().Format(time.RFC3339)
	}
	return reason
}

// notice drains, once for each text of a notice, so that the log says when it came.
func (d *Drain) notice(by, text, reason string) {
	if d.noticed[by] == text {
		return
	}
	d.noticed[by] = text
	d.log.Warn("termination notice", "by", by, "reason", reason)
	d.start(by, reason)
}
