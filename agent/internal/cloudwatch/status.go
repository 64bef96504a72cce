package cloudwatch

import (
	"maps"
	"slices"
	"time"
)

// State is what becomes of the metrics at present.
type State string

// The states.
const (
	Sending State = "sending" // the last attempt was delivered
	Local   State = "local"   // they stay here and are meant to
	Waiting State = "waiting" // CloudWatch cannot be reached, or has not been yet
	Denied  State = "denied"  // CloudWatch does not allow them
)

// Status says how delivery stands. Figures count datums, since the process started.
type Status struct {
	Send               Mode              `json:"send"`
	State              State             `json:"state"`
	Reason             string            `json:"reason,omitempty"` // why State is not Sending, as a sentence to act on
	Sent               uint64            `json:"sent"`
	LastSent           time.Time         `json:"last_sent,omitzero"`
	Spooled            int               `json:"spooled"` // waiting
	SpooledBatches     int               `json:"spooled_batches"`
	SpooledBytes       int64             `json:"spooled_bytes"`
	Oldest             time.Time         `json:"oldest,omitzero"` // of those waiting
	Dropped            uint64            `json:"dropped"`
	DroppedBy          map[string]uint64 `json:"dropped_by,omitempty"` // by reason
	PossibleDuplicates uint64            `json:"possible_duplicates"`
	LastError          string            `json:"last_error,omitempty"` // kept after it is over
	Series             int               `json:"series"`
	Unknown            []string          `json:"unknown,omitempty"` // dimensions without a value at present: their sets are left out
}

type counts struct {
	sent, dropped, duplicates uint64
	droppedBy                 map[string]uint64
	untold                    untold
	lastSent                  time.Time
	lastError                 string
}

// untold is what has been lost, or may have been sent twice, and is not yet published; of earlier processes too.
type untold struct{ dropped, duplicates uint64 }

// Status returns how delivery stands.
func (p *Publisher) Status() Status {
	unknown := p.unknown()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.counts
	return Status{
		Send: p.config.Send, State: p.state, Reason: p.reason,
		Sent: c.sent, LastSent: c.lastSent,
		Spooled: p.queue.datums, SpooledBatches: p.queue.batches, SpooledBytes: p.queue.bytes, Oldest: p.queue.oldest,
		Dropped: c.dropped, DroppedBy: maps.Clone(c.droppedBy),
		PossibleDuplicates: c.duplicates, LastError: c.lastError,
		Series: p.fold.count(), Unknown: unknown,
	}
}

// unknown lists the dimensions that have no value at present.
func (p *Publisher) unknown() (names []string) {
	for _, set := range p.sets {
		for _, name := range set {
			if !slices.Contains(names, name) && badDimensionValue(clean(p.config.Dimension(name))) != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// enter changes the state and logs it when it did change; the reason may change without a word.
func (p *Publisher) enter(s State, reason string) {
	p.mu.Lock()
	p.state, p.reason = s, reason
	same := p.said == s
	if reason != notYet {
		p.said = s
	}
	if (s == Denied || s == Waiting) && reason != notYet {
		p.counts.lastError = reason
	}
	p.mu.Unlock()
	switch {
	case same || reason == notYet:
	case s == Sending || s == Local:
		p.logger.Info("metrics are "+string(s), "reason", reason)
	default:
		p.logger.Warn("metrics are "+string(s), "reason", reason)
	}
}

// sent counts n datums as delivered, after so many earlier sendings that may have been applied too.
func (p *Publisher) sent(n, unsure int, now time.Time) {
	p.mu.Lock()
	p.counts.sent += uint64(n)
	p.counts.lastSent = now
	p.counts.duplicates += uint64(n * unsure)
	p.counts.untold.duplicates += uint64(n * unsure)
	p.mu.Unlock()
	p.enter(Sending, "")
}

// inherit takes over what an earlier process could not tell.
func (p *Publisher) inherit(u untold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.untold.dropped += u.dropped
	p.counts.untold.duplicates += u.duplicates
}

func (p *Publisher) drop(why string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(why, uint64(n))
}

func (p *Publisher) dropLocked(why string, n uint64) {
	if p.counts.droppedBy == nil {
		p.counts.droppedBy = map[string]uint64{}
	}
	if p.counts.droppedBy[why] == 0 {
		p.logger.Warn("metrics dropped", "reason", why)
	}
	p.counts.dropped += n
	p.counts.untold.dropped += n
	p.counts.droppedBy[why] += n
}

func (p *Publisher) tell(sentence string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.lastError = sentence
}

// noteQueue copies what others may ask for out of what is Run's own, and has the disk remember what is untold.
func (p *Publisher) noteQueue() {
	var st spoolStats
	if !p.holding() {
		st = p.spool.stats()
	}
	p.mu.Lock()
	p.queue = st
	u := p.counts.untold
	p.mu.Unlock()
	p.spool.keepUntold(u)
}
