package health

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
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

// Operator is the Drain.By of a person's wish.
const Operator = "operator"

// Drain makes the handler answer 503 until each who wished it has called Undrain. A second wish by
// the same one replaces its reason only, if it has one.
func (c *Checker) Drain(by, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.keepDrainsLocked()
	if i := c.drainByLocked(by); i >= 0 {
		c.drains[i].Reason = cmp.Or(reason, c.drains[i].Reason)
		return
	}
	reason = cmp.Or(reason, by+" asked for it")
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
	c.keepDrainsLocked()
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

// keepDrainsLocked writes what there is, or removes the file: nginx keeps to it while the agent is
// away. Drains that cannot be kept still hold until the agent restarts.
func (c *Checker) keepDrainsLocked() {
	if c.cfg.DrainFile == "" {
		return
	}
	err := os.Remove(c.cfg.DrainFile)
	if len(c.drains) > 0 {
		err = writeDrains(c.cfg.DrainFile, c.drains)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("drains will not outlive a restart of the agent", "err", err)
	}
}

func writeDrains(path string, d []Drain) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return replaceFile(path, b)
}

// readDrains takes up the drains of before the agent's restart. Nothing but a reboot, which takes the
// file away, ends what AWS or a shutdown wished. A file that cannot be read is an operator's drain: it
// is there because someone wanted no traffic here.
func (c *Checker) readDrains() {
	if c.cfg.DrainFile == "" {
		return
	}
	b, err := os.ReadFile(c.cfg.DrainFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(b, &c.drains)
	}
	if err != nil || len(c.drains) == 0 {
		c.drains = []Drain{{By: Operator, Reason: "as before the agent's restart", Since: time.Now()}}
	}
	for i := range c.drains {
		c.drains[i].Told = 0 // by this agent
	}
	c.log.Warn("still draining: load balancers are answered 503", "by", c.drains[0].By, "reason", c.drains[0].Reason, "err", err)
}
