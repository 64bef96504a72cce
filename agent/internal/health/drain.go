package health

import (
	"slices"
	"time"
)

// Drain is one standing wish to receive no more traffic.
type Drain struct {
	By     string    `json:"by"` // who wishes it: "operator", "spot", "shutdown", …
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Told   uint64    `json:"told"` // how often a load balancer has been answered 503 since
}

// Drain makes the handler answer 503 until each who wished it has called Undrain. A second wish by
// the same one replaces its reason only.
func (c *Checker) Drain(by, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.drainByLocked(by); i >= 0 {
		c.drains[i].Reason = reason
		return
	}
	c.drains = append(c.drains, Drain{By: by, Reason: reason, Since: time.Now()})
	c.log.Warn("draining: load balancers are answered 503", "by", by, "reason", reason)
}

// Undrain takes one wish back and reports whether there was one.
func (c *Checker) Undrain(by string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.drainByLocked(by)
	if i < 0 {
		return false
	}
	c.drains = slices.Delete(c.drains, i, i+1)
	c.log.Info("no longer draining", "by", by, "others", len(c.drains))
	return true
}

// Draining returns the standing wishes, oldest first; none: the instance takes traffic.
func (c *Checker) Draining() []Drain {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.drains)
}

func (c *Checker) drainByLocked(by string) int {
	return slices.IndexFunc(c.drains, func(d Drain) bool { return d.By == by })
}
