// Package notify sends notices about jobs that failed, recovered or are overdue.
//
// [Notifier.Notify] never blocks and never fails: an event goes into a bounded queue, and those
// that do not fit are counted. [Notifier.Run] chooses the targets, holds repetitions back for a
// cooldown and retries with growing pauses, each target by itself, so that a slow one delays no other.
//
// The addresses of targets are secrets (with a Slack webhook's anybody may write to the channel):
// they appear in no log, error or status. Output of a job is sent only to targets with Tail set.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config of a Notifier.
type Config struct {
	// Required.

	Targets []Target
	Log     *slog.Logger

	// Optional.

	// Cooldown is how long after a notice about a job further ones of its failures are held back;
	// the next notice has their number. Default 30 minutes. Check-ins are never held back.
	Cooldown time.Duration

	// Expand resolves ${NAME} in a target's addresses and token before each send, so that a
	// changed environment counts at once. Nil: they are used as they are.
	Expand func(string) (string, error)

	// Where says on which instance and in which environment events happen, as it is known when a notice is sent. It may
	// wait, until its context is done. Nil: as the events have it.
	Where func(context.Context) (host, environment string)

	Transport http.RoundTripper // default: one without proxy, with time limits
}

const (
	maxQueue   = 256 // events waiting for Run, and notices waiting for one target
	flushGrace = 3 * time.Second

	// maxJobs is how many jobs that fail are remembered. Names come from a file that may have others each time it is
	// read; what is forgotten costs a notice too many, or one of a recovery.
	maxJobs = 2000
)

// Notifier queues events and sends them while Run runs.
type Notifier struct {
	log      *slog.Logger
	cooldown time.Duration
	events   chan Event
	senders  []*sender

	mu      sync.Mutex
	failing map[string]bool // jobs whose last event was a problem
	dropped uint64          // events that found the queue full
}

// New returns every fault of c's targets at once.
func New(c Config) (*Notifier, error) {
	if c.Log == nil {
		return nil, errors.New("notify: Config.Log is required")
	}
	n := &Notifier{
		log: c.Log, cooldown: cmp.Or(c.Cooldown, 30*time.Minute),
		events: make(chan Event, maxQueue), failing: map[string]bool{},
	}
	client := newClient(c.Transport)
	var faults []error
	for i, t := range c.Targets {
		t.Name = cmp.Or(t.Name, defaultName(t.Type, i))
		t.Check(func(key, format string, args ...any) {
			faults = append(faults, fmt.Errorf("notify target %q: %s "+format, append([]any{t.Name, key}, args...)...))
		})
		n.senders = append(n.senders, newSender(t, c, client, cmp.Or(t.Cooldown, n.cooldown)))
	}
	return n, errors.Join(faults...)
}

// Notify queues e and returns at once. If the queue is full, e is counted as dropped.
func (n *Notifier) Notify(e Event) {
	select {
	case n.events <- e:
		return
	default:
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropped++
}

// Run sends until ctx is done. Then it tries each queued notice once, for 3 s in all, and logs
// how many could not be sent.
func (n *Notifier) Run(ctx context.Context) error {
	var senders sync.WaitGroup
	for _, s := range n.senders {
		senders.Go(func() { s.run(ctx) })
	}
	for {
		select {
		case e := <-n.events:
			n.dispatch(e)
			continue
		case <-ctx.Done():
		}
		break
	}
	senders.Wait()
	for len(n.events) > 0 {
		n.dispatch(<-n.events)
	}
	ending, cancel := context.WithTimeout(context.Background(), flushGrace)
	defer cancel()
	for _, s := range n.senders {
		senders.Go(func() { s.flush(ending) })
	}
	senders.Wait()
	return nil
}

// dispatch gives e to every target it is for.
func (n *Notifier) dispatch(e Event) {
	n.mu.Lock()
	if e.Before != "" {
		n.failing[e.Job] = e.Before.problem()
	}
	if e.Kind == Succeeded && n.failing[e.Job] {
		e.Kind = Recovered
	}
	switch {
	case e.Kind.problem():
		if len(n.failing) >= maxJobs {
			clear(n.failing)
		}
		n.failing[e.Job] = true
	case e.Kind != Started:
		delete(n.failing, e.Job)
	}
	n.mu.Unlock()
	named := func(s *sender) bool { return slices.Contains(e.To, s.target.Name) }
	all := !slices.ContainsFunc(n.senders, named)
	for _, s := range n.senders {
		if all || named(s) || s.target.Type == CheckIn { // its server takes silence for a failure
			s.add(e)
		}
	}
}

// Status counts notices.
type Status struct {
	Dropped uint64         `json:"dropped"` // events that found the queue full
	Targets []TargetStatus `json:"targets"`
}

// Status may be called at any time.
func (n *Notifier) Status() Status {
	n.mu.Lock()
	st := Status{Dropped: n.dropped, Targets: []TargetStatus{}}
	n.mu.Unlock()
	for _, s := range n.senders {
		st.Targets = append(st.Targets, s.status())
	}
	return st
}
