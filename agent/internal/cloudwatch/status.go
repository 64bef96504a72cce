package cloudwatch

import (
	"maps"
	"time"
)

// State says what currently happens to the metrics.
type State string

// The states.
const (
	Sending State = "sending" // the last attempt was delivered
	Local   State = "local"   // they stay here, as configured or for want of credentials
	Waiting State = "waiting" // CloudWatch cannot be reached, or has not been yet
	Denied  State = "denied"  // a policy denies them
)

// Status is the state of the delivery. Numbers count datums since the process started.
type Status struct {
	Send               Mode              `json:"send"`
	State              State             `json:"state"`
	Reason             string            `json:"reason,omitempty"` // why State is not Sending, as a sentence to act on
	Sent               uint64            `json:"sent"`
	LastSent           time.Time         `json:"last_sent,omitzero"`
	Spooled            int               `json:"spooled"` // waiting
	SpooledBatches     int               `json:"spooled_batches"`
	SpooledBytes       int64             `json:"spooled_bytes"`
	Oldest             time.Time         `json:"oldest,omitzero"`      // of those waiting
	DiskError          string            `json:"disk_error,omitempty"` // why what waits is in memory alone
	Dropped            uint64            `json:"dropped"`
	DroppedBy          map[string]uint64 `json:"dropped_by,omitempty"` // by reason
	PossibleDuplicates uint64            `json:"possible_duplicates"`
	LastError          string            `json:"last_error,omitempty"` // kept after it is over
	Series             int               `json:"series"`
	Unknown            []string          `json:"unknown,omitempty"` // dimensions without a value at the last publish
}

type counts struct {
	sent, dropped, duplicates uint64
	droppedBy                 map[string]uint64
	unreported                unreported
	lastSent                  time.Time
	lastError                 string
}

// Status returns the state of the delivery.
func (p *Publisher) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.counts
	var diskError string
	if p.queue.diskErr != nil {
		diskError = p.queue.diskErr.Error()
	}
	return Status{
		Send: p.config.Send, State: p.state, Reason: p.reason,
		Sent: c.sent, LastSent: c.lastSent,
		Spooled: p.queue.datums, SpooledBatches: p.queue.batches, SpooledBytes: p.queue.bytes, Oldest: p.queue.oldest,
		DiskError: diskError,
		Dropped:   c.dropped, DroppedBy: maps.Clone(c.droppedBy),
		PossibleDuplicates: c.duplicates, LastError: c.lastError,
		Series: p.aggregate.count(), Unknown: p.unknown,
	}
}

// setState logs a new state. A new reason for the same state is not logged.
func (p *Publisher) setState(s State, reason string) {
	p.mu.Lock()
	p.state, p.reason = s, reason
	same := p.logged == s
	if reason != notSentYet {
		p.logged = s
	}
	if (s == Denied || s == Waiting) && reason != notSentYet {
		p.counts.lastError = reason
	}
	p.mu.Unlock()
	switch {
	case same || reason == notSentYet:
	case s == Sending || s == Local:
		p.logger.Info("metrics are "+string(s), "reason", reason)
	default:
		p.logger.Warn("metrics are "+string(s), "reason", reason)
	}
}

// countSent counts n datums as delivered, and as duplicates for each earlier sending that may have been applied.
func (p *Publisher) countSent(n, earlier int, now time.Time) {
	p.mu.Lock()
	p.counts.sent += uint64(n)
	p.counts.lastSent = now
	p.counts.duplicates += uint64(n * earlier)
	p.counts.unreported.duplicates += uint64(n * earlier)
	p.mu.Unlock()
	p.setState(Sending, "")
}

// addUnreported takes over the counts that an earlier process did not publish.
func (p *Publisher) addUnreported(u unreported) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.unreported.dropped += u.dropped
	p.counts.unreported.duplicates += u.duplicates
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
	p.counts.unreported.dropped += n
	p.counts.droppedBy[why] += n
}

func (p *Publisher) setLastError(sentence string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.lastError = sentence
}

// updateQueue copies the spool's figures for Status and saves the unreported counts.
func (p *Publisher) updateQueue() {
	var st spoolStats
	if !p.memoryOnly() {
		st = p.spool.stats()
	}
	p.mu.Lock()
	p.queue = st
	u := p.counts.unreported
	p.mu.Unlock()
	p.spool.saveUnreported(u)
}
