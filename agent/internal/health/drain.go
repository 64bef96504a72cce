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

// Operator is the Drain.By of a person's wish, the only one that outlives the agent: every other
// is made anew by what led to it.
const Operator = "operator"

// Drain makes the handler answer 503 until each who wished it has called Undrain. A second wish by
// the same one replaces its reason only, if it has one.
func (c *Checker) Drain(by, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.keepDrainLocked()
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
	c.keepDrainLocked()
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

// keepDrainLocked writes the operator's drain, or removes it. A drain that cannot be kept still
// holds until the agent restarts.
func (c *Checker) keepDrainLocked() {
	if c.cfg.DrainFile == "" {
		return
	}
	err := os.Remove(c.cfg.DrainFile)
	if i := c.drainByLocked(Operator); i >= 0 {
		err = writeDrain(c.cfg.DrainFile, c.drains[i])
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("the drain will not outlive a restart of the agent", "err", err)
	}
}

func writeDrain(path string, d Drain) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return replaceFile(path, b)
}

// readDrain takes up the operator's drain. A file that cannot be read is a drain too: it is there
// because someone wanted no traffic here.
func (c *Checker) readDrain() {
	if c.cfg.DrainFile == "" {
		return
	}
	b, err := os.ReadFile(c.cfg.DrainFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	d := Drain{By: Operator, Reason: "as before the agent's restart", Since: time.Now()}
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	c.drains = append(c.drains, d)
	c.log.Warn("still draining: load balancers are answered 503", "by", d.By, "reason", d.Reason, "err", err)
}
