package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/drain"
)

// hold keeps jobs from starting, also in the agent that comes after this one: a
// deployment does not end because the agent is restarted in it. It is noted beside
// the socket, where a reboot forgets it.
func (c *cronParts) hold(limit time.Duration) {
	c.sched.Hold(limit)
	until := time.Now().Add(limit).UTC().Format(time.RFC3339)
	if err := os.WriteFile(c.held, []byte(until+"\n"), 0o600); err != nil {
		c.log.Warn("a restart of the agent would end the hold", "err", err)
	}
}

func (c *cronParts) release() {
	c.forgetHold()
	c.sched.Release()
}

// holdOn takes up the hold of an earlier agent, for what is left of its limit.
func (c *cronParts) holdOn() {
	text, err := os.ReadFile(c.held)
	if err != nil {
		return // as a rule there is none
	}
	until, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
	if left := time.Until(until); err == nil && left > 0 && left <= drain.HoldForTermination {
		c.log.Info("starts are held, as before", "until", until)
		c.sched.Hold(left)
		return
	}
	c.forgetHold()
}

func (c *cronParts) forgetHold() {
	if err := os.Remove(c.held); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("a restart of the agent would hold starts again", "err", err)
	}
}
