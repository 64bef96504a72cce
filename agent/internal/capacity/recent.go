package capacity

import (
	"sync"
	"time"
)

// recently is how far back a load counts: long enough that a person who asks
// after a rush still sees it.
const recently = 15

// seldom is the share of looks below which waiting clients are a blip: a queue
// of one for a moment is how an accept works.
const seldom = 0.05

// Load is what the workers had to do.
type Load struct {
	CPU          float64 // percent of one CPU, all workers
	Backlog      int     // clients waiting to be accepted
	BacklogKnown bool
}

// Recent keeps the highest load of the last quarter of an hour, by the minute.
// It allocates nothing. Its zero value is empty; it is safe for concurrent use.
type Recent struct {
	mu      sync.Mutex
	minutes [recently]minute
}

type minute struct {
	at             int64 // minutes since 1970; 0: empty
	looks, waiting int
	most           Load
}

// Add takes one look.
func (r *Recent) Add(at time.Time, l Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := at.Unix() / 60
	m := &r.minutes[now%recently]
	if m.at != now {
		*m = minute{at: now}
	}
	m.most.CPU = max(m.most.CPU, l.CPU)
	if l.BacklogKnown {
		m.most.BacklogKnown = true
		m.most.Backlog = max(m.most.Backlog, l.Backlog)
		m.looks++
		if l.Backlog > 0 {
			m.waiting++
		}
	}
}

// Load returns the highest of each. A backlog that was seen in fewer than one
// look of twenty is none.
func (r *Recent) Load(at time.Time) (most Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := at.Unix() / 60
	looks, waiting := 0, 0
	for _, m := range r.minutes {
		if m.at == 0 || m.at > now || m.at <= now-recently {
			continue // of before, or of a clock that was stepped back
		}
		most.CPU = max(most.CPU, m.most.CPU)
		most.Backlog = max(most.Backlog, m.most.Backlog)
		most.BacklogKnown = most.BacklogKnown || m.most.BacklogKnown
		looks, waiting = looks+m.looks, waiting+m.waiting
	}
	if float64(waiting) < seldom*float64(looks) {
		most.Backlog = 0
	}
	return most
}
