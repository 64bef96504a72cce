package cron

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/strictpath"
)

// Hold keeps jobs from starting until Release or until limit has passed, also in the next agent process: a deployment
// does not end because the agent is restarted in it. It is saved under /run, so that it does not survive a reboot.
func (c *Cron) Hold(limit time.Duration) {
	c.sched.Hold(limit)
	until := time.Now().Add(limit).UTC().Format(time.RFC3339)
	if err := strictpath.WriteOwn(c.cfg.HoldFile, []byte(until+"\n")); err != nil {
		c.log.Warn("a restart of the agent would end the hold", "err", err)
	}
}

// Release lets jobs start again.
func (c *Cron) Release() {
	c.forgetHold()
	c.sched.Release()
}

// keepHold continues the hold of an earlier process for what is left of its limit.
func (c *Cron) keepHold() {
	text, err := strictpath.ReadOwn(c.cfg.HoldFile, 100)
	if strictpath.IsForeign(err) {
		c.log.Warn("no hold of before is taken up", "err", err)
	}
	if err != nil {
		return // as a rule there is none
	}
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	if left := time.Until(until); err == nil && left > 0 {
		c.log.Info("starts are held, as before", "until", until)
		c.sched.Hold(left)
		return
	}
	c.forgetHold()
}

func (c *Cron) forgetHold() {
	if err := os.Remove(c.cfg.HoldFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a restart of the agent would hold starts again", "err", err)
	}
}
