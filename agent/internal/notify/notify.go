// Package notify tells people about jobs that failed, recovered or are overdue.
//
// [Notifier.Notify] never blocks and never fails: an event goes into a bounded queue, and what does
// not fit is counted. [Notifier.Run] decides who is told, holds repetitions back for a cooldown
// and retries with growing pauses, each target by itself, so that a slow one delays no other.
//
// The addresses of targets are secrets (whoever has a Slack webhook's may write to the channel):
// they appear in no log, error or status. Output of a job is sent only to targets that ask for it.
package notify

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Kind is what happened to a job.
type Kind string

const (
	Started   Kind = "started"   // for check-ins only
	Succeeded Kind = "succeeded" // for check-ins; after a failure it is a recovery
	Failed    Kind = "failed"
	Overdue   Kind = "overdue" // should have started or ended, and did not
	Recovered Kind = "recovered"
	Missed    Kind = "missed" // was due and did not run
)

func (k Kind) bad() bool { return k == Failed || k == Overdue || k == Missed }

// Event is one thing that happened to one job.
type Event struct {
	// Required.

	Job  string
	Kind Kind
	At   time.Time

	// Optional.

	Run         string        // the run's id
	Exit        int           // the command's exit status
	Reason      string        // one line, without secrets
	Took        time.Duration // how long the run lasted
	Host        string
	Environment string
	Tail        string   // last lines of output; sent only to targets with Tail set
	To          []string // names of the targets to tell beside check-ins; none, or only unknown ones: all
	Before      Kind     // Failed or Succeeded: how the job's run before this one ended, when that was no event here
}

// Config says whom to tell.
type Config struct {
	// Required.

	Targets []Target
	Log     *slog.Logger

	// Optional.

	// Cooldown is how long after a notice about a job further ones of its failures are held back
	// (counted, and told with the next one). Default 30 minutes. Check-ins are never held back.
	Cooldown time.Duration

	// Expand resolves ${NAME} in a target's addresses and token before each send, so that a
	// changed environment counts at once. Nil: they are taken as they are.
	Expand func(string) (string, error)

	Transport http.RoundTripper // default: one without proxy, with time limits
}

const (
	maxQueue   = 256 // events waiting for Run, and notices waiting for one target
	flushGrace = 3 * time.Second
)

// Notifier takes events from anyone and sends them on while Run runs.
type Notifier struct {
	log      *slog.Logger
	cooldown time.Duration
	events   chan Event
	senders  []*sender

	mu      sync.Mutex
	failing map[string]bool // jobs whose last event was bad
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
		faults = append(faults, CheckTarget(t))
		n.senders = append(n.senders, newSender(t, client, c.Expand, c.Log, cmp.Or(t.Cooldown, n.cooldown)))
	}
	return n, errors.Join(faults...)
}

// Notify hands e over and returns at once. If the queue is full, e is counted as dropped.
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

// Run sends until ctx is done. Then each target gets what waits for it once more, for 3 s in all,
// and what still could not be sent is told in the log.
func (n *Notifier) Run(ctx context.Context) error {
	var senders sync.WaitGroup
	for _, s := range n.senders {
		senders.Go(func() { s.run(ctx) })
	}
	for {
		select {
		case e := <-n.events:
			n.spread(e)
			continue
		case <-ctx.Done():
		}
		break
	}
	senders.Wait()
	for len(n.events) > 0 {
		n.spread(<-n.events)
	}
	ending, cancel := context.WithTimeout(context.Background(), flushGrace)
	defer cancel()
	for _, s := range n.senders {
		senders.Go(func() { s.flush(ending) })
	}
	senders.Wait()
	return nil
}

// spread gives e to every target it is for.
func (n *Notifier) spread(e Event) {
	n.mu.Lock()
	if e.Before != "" {
		n.failing[e.Job] = e.Before.bad()
	}
	if e.Kind == Succeeded && n.failing[e.Job] {
		e.Kind = Recovered
	}
	switch {
	case e.Kind.bad():
		n.failing[e.Job] = true
	case e.Kind != Started:
		delete(n.failing, e.Job)
	}
	n.mu.Unlock()
	named := func(s *sender) bool { return slices.Contains(e.To, s.target.Name) }
	all := !slices.ContainsFunc(n.senders, named)
	for _, s := range n.senders {
		if all || named(s) || s.target.Type == CheckIn { // its server takes silence for a failure
			s.take(e)
		}
	}
}

// Status is what happened to the notices so far.
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
