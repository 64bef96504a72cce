package cron

import (
	"errors"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

// status says how instances agree, and what is wrong with that.
func (c *fleet) status() []api.Line {
	s, err := c.open()
	if errors.Is(err, errNoStore) {
		if !c.app.Facts().Beanstalk {
			return nil // one machine, no fleet
		}
		return []api.Line{api.NewLine("cron", api.Warn, "", "every instance runs every job: %v", err)}
	}
	if err != nil {
		return []api.Line{api.NewLine("cron", api.Bad, "", "%v", err)}
	}
	st := s.Status()
	state := api.Good
	if st.Failing {
		state = api.Bad
	}
	lines := []api.Line{api.NewLine("cron", state, "", "one instance%s runs each slot: %d left to others, "+
		"%d running there, %d paused, %d skipped, %d neither won nor lost %s",
		c.ofGroup(), st.Lost, st.Busy, st.Paused, st.Skipped, st.Missed, st.LastError)}
	return append(lines, c.lateLines()...)
}

func (c *fleet) ofGroup() string {
	if g := c.store.Load(); g != nil && g.group != "" {
		return " of group " + g.group
	}
	return ""
}

// lateLines name the runs that end unless S3 answers.
func (c *fleet) lateLines() (lines []api.Line) {
	c.leases.mu.Lock()
	defer c.leases.mu.Unlock()
	now := runs.BootNow()
	for h := range c.leases.held {
		h.mu.Lock()
		if h.isLateLocked(now) && !h.prefersRun && !h.lenient {
			ends := time.Now().Add(time.Duration(h.until - now)).UTC().Format("15:04:05 MST")
			lines = append(lines, api.NewLine("cron", api.Bad, "", "%s ends at %s unless S3 answers", h.job, ends))
		}
		h.mu.Unlock()
	}
	return lines
}
