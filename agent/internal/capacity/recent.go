package capacity

import (
	"sync"
	"time"
)

// recently is how many minutes a load counts: so long that whoever looks after a rush still sees it.
const recently = 15

// seldom is the share of samples below which waiting clients do not count: a queue of one for a moment is normal.
const seldom = 0.05

// Load is the workers' load.
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
	at               int64 // minutes since 1970; 0: empty
	samples, waiting int
	most             Load
}

// Add adds one sample.
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
		m.samples++
		if l.Backlog > 0 {
			m.waiting++
		}
	}
}

// Load returns the highest of each. A backlog in fewer than one sample of twenty counts as none.
func (r *Recent) Load(at time.Time) (most Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := at.Unix() / 60
	samples, waiting := 0, 0
	for _, m := range r.minutes {
		if m.at == 0 || m.at > now || m.at <= now-recently {
			continue // of before, or of a clock that was stepped back
		}
		most.CPU = max(most.CPU, m.most.CPU)
		most.Backlog = max(most.Backlog, m.most.Backlog)
		most.BacklogKnown = most.BacklogKnown || m.most.BacklogKnown
		samples, waiting = samples+m.samples, waiting+m.waiting
	}
	if float64(waiting) < seldom*float64(samples) {
		most.Backlog = 0
	}
	return most
}
