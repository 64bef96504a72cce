// Package drain says why this instance is leaving: an operator's wish, a shutdown, or a termination notice.
//
// While there is a reason, load balancers are answered 503. A shutdown and a termination notice also hold cron starts,
// for another instance runs the jobs then. An operator's drain does not: an instance may be drained to be looked at,
// and be the only one that runs the jobs.
package drain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/strictpath"
)

// Values of Reason.By besides the kinds of termination notice.
const (
	Operator = "operator"
	Shutdown = "shutdown"
)

// Reason is why this instance takes no more traffic.
type Reason struct {
	By      string    `json:"by"` // Operator, Shutdown, "spot" or "autoscaling"
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
	Refused uint64    `json:"told"` // how often a load balancer has been answered 503 since
}

// HoldForTermination is how long jobs are held on an instance that is leaving. It outlasts any termination.
const HoldForTermination = 24 * time.Hour

// Config says whom a Drain asks and what it changes.
type Config struct {
	// Required.

	Log     *slog.Logger
	Hold    func(limit time.Duration) // holds cron starts, also across a restart of the agent
	Release func()                    // lets them start again
	Runs    func(context.Context, runs.Filter) ([]runs.Run, error)

	// Connections counts those that the application has accepted; -1: they cannot be counted here.
	Connections func(context.Context) int

	// For EndJobs.
	Interrupt func(ctx context.Context, id, by string) (runs.Run, error) // ends a run, and returns when it has ended
	Extend    func(time.Duration)                                        // systemd waits for so long from now

	// Optional.

	// File keeps the reasons across restarts of the agent. nginx refuses load balancers while it is there and the
	// agent is not. It belongs below /run: a reboot ends a drain.
	File string

	// Metadata asks the instance metadata service and returns "" for what is not there. Nil: Run has nothing to watch.
	Metadata func(ctx context.Context, path string) (string, error)
}

// Drain holds the reasons for which this instance is leaving. It is safe for concurrent use.
type Drain struct {
	cfg Config
	log *slog.Logger

	interval time.Duration     // of Run
	noticed  map[string]string // by whom → the last notice; Run's

	holding sync.Mutex // makes one step of "is it leaving?" and what that means for jobs

	mu      sync.Mutex
	reasons []Reason  // oldest first
	asked   time.Time // when a load balancer asked last; zero: none yet
}

// New takes up the reasons that an earlier agent has left in Config.File.
func New(c Config) *Drain {
	d := &Drain{cfg: c, log: c.Log, interval: pollInterval, noticed: map[string]string{}}
	d.read()
	return d
}

// Drain starts an operator's drain, or that of a shutdown. An operator who drains again replaces the reason only, if
// there is a new one.
func (d *Drain) Drain(_ context.Context, reason string, shutdown bool) error {
	if shutdown {
		d.start(Shutdown, "this machine is shutting down")
	} else {
		d.start(Operator, reason)
	}
	return nil
}

func (d *Drain) start(by, reason string) {
	d.holding.Lock()
	defer d.holding.Unlock()
	d.add(by, reason)
	if by != Operator {
		d.cfg.Hold(HoldForTermination)
	}
}

func (d *Drain) add(by, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.keepLocked()
	if i := d.indexLocked(by); i >= 0 {
		d.reasons[i].Reason = cmp.Or(reason, d.reasons[i].Reason)
		return
	}
	reason = cmp.Or(reason, by+" asked for it")
	d.reasons = append(d.reasons, Reason{By: by, Reason: reason, Since: time.Now()})
	d.log.Warn("draining: load balancers are answered 503", "by", by, "reason", reason)
}

// remove reports whether there was such a reason.
func (d *Drain) remove(by string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := d.indexLocked(by)
	if i < 0 {
		return false
	}
	d.reasons = slices.Delete(d.reasons, i, i+1)
	d.keepLocked()
	d.log.Info("no longer draining", "by", by, "others", len(d.reasons))
	return true
}

func (d *Drain) indexLocked(by string) int {
	return slices.IndexFunc(d.reasons, func(r Reason) bool { return r.By == by })
}

// Reasons returns the standing reasons, oldest first; none: the instance takes traffic.
func (d *Drain) Reasons() []Reason {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.reasons)
}

// Refuse reports whether a health check is to be answered 503. It counts those of load balancers.
func (d *Drain) Refuse(balancer bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if balancer {
		d.asked = time.Now()
		for i := range d.reasons {
			d.reasons[i].Refused++
		}
	}
	return len(d.reasons) > 0
}

// keepLocked writes the reasons, or removes the file. Reasons that cannot be written hold until the agent restarts.
func (d *Drain) keepLocked() {
	if d.cfg.File == "" {
		return
	}
	err := os.Remove(d.cfg.File)
	if len(d.reasons) > 0 {
		err = write(d.cfg.File, d.reasons)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("drains will not outlive a restart of the agent", "err", err)
	}
}

// write replaces path in one step, readable by root alone.
func write(path string, reasons []Reason) error {
	b, err := json.Marshal(reasons)
	if err != nil {
		return err
	}
	return strictpath.WriteOwn(path, b)
}

// maxFile is far above what the reasons take.
const maxFile = 1 << 20

// read takes up the reasons of before the agent's restart. Nothing but a reboot, which takes the file away, ends a
// shutdown or a termination. A file that cannot be read counts as an operator's drain: it is there because this
// instance was to get no traffic. Another user's is none of ours.
func (d *Drain) read() {
	if d.cfg.File == "" {
		return
	}
	b, err := strictpath.ReadOwn(d.cfg.File, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if strictpath.IsForeign(err) {
		d.log.Warn("a drain that another user wrote is not taken up", "err", err)
		_ = os.Remove(d.cfg.File) // nginx sees it, too
		return
	}
	if err == nil {
		err = json.Unmarshal(b, &d.reasons)
	}
	if err != nil || len(d.reasons) == 0 {
		d.reasons = []Reason{{By: Operator, Reason: "as before the agent's restart", Since: time.Now()}}
	}
	for i := range d.reasons {
		d.reasons[i].Refused = 0 // by this agent
	}
	first := d.reasons[0]
	d.log.Warn("still draining: load balancers are answered 503", "by", first.By, "reason", first.Reason, "err", err)
}
