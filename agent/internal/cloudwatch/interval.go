package cloudwatch

import (
	"time"

	"beanstalk-agent/collectors"
)

// cut closes the intervals that are over, or all, and puts their datums into the spool.
func (p *Publisher) cut(now time.Time, all bool) {
	p.next.boundary = boundary(now, p.config.Interval)
	if !p.holding() {
		p.spool.settle()
	}
	p.spool.turn()
	for _, b := range p.close(now, all) {
		p.keep(b)
	}
	p.noteQueue()
	switch {
	case p.flying:
	case len(p.spool.entries) == 0:
		p.rest()
	case !p.next.paused:
		p.next.send = now.Add(p.next.phase)
	}
}

// rest is called when nothing more is to be done for a while.
func (p *Publisher) rest() {
	if p.config.Published != nil {
		p.config.Published()
	}
}

// batch is the datums of one interval.
type batch struct {
	at     time.Time
	datums []Datum
}

// close takes the intervals that are over out of the fold, the agent's own counters with them.
func (p *Publisher) close(now time.Time, all bool) (out []batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := p.resolve()
	for _, w := range p.fold.take(now, all) {
		if w.samples > 0 {
			p.ownLocked(w)
			b := batch{w.start, datums(w, sets)}
			p.recent = Payload{p.config.Namespace, b.datums}
			if len(sets) == 0 {
				p.dropLocked("no dimension is known", uint64(len(w.order)))
			} else {
				out = append(out, b)
			}
		}
		p.fold.recycle(w)
	}
	return out
}

// ownLocked adds the publisher's own figures to w, those that are not zero: a series that is always zero is a series
// paid for. An alarm on them treats missing data as good. What was lost is told when batches arrive again: a batch cut
// during the outage might be lost with the figure in it.
func (p *Publisher) ownLocked(w *window) {
	own := func(name string, v uint64) {
		if v > 0 {
			p.fold.into(w, collectors.Sample{Name: name, Unit: collectors.Count, Value: float64(v)})
		}
	}
	own("metrics_spooled", uint64(p.queue.datums))
	if p.state == Sending {
		own("metrics_dropped", p.counts.untold.dropped)
		own("possible_duplicates", p.counts.untold.duplicates)
		p.counts.untold = untold{}
	}
}

// keep spools one interval as records of one request each.
func (p *Publisher) keep(b batch) {
	if p.config.Send == Off {
		return
	}
	for _, part := range requests(b.datums) {
		p.store(p.config.Namespace, b.at, part, 0)
	}
}

// store puts one request into the spool, and counts what had to make room for it.
func (p *Publisher) store(namespace string, at time.Time, ds []Datum, unsure int) {
	rec, err := encodeRecord(namespace, at, ds)
	if err != nil {
		p.drop("cannot be encoded", len(ds))
		return
	}
	if p.holding() {
		p.spool.hold(at, len(ds), rec)
		return
	}
	before := p.spool.diskErr
	e, lost := p.spool.put(at, len(ds), rec)
	e.fresh = &parcel{e, namespace, at, ds}
	if unsure > 0 {
		p.spool.mark(e, unsure)
	}
	if p.spool.diskErr != nil && before == nil && p.spool.dir != "" {
		p.logger.Warn("metrics are spooled in memory", "err", p.spool.diskErr)
	}
	for _, e := range lost {
		p.drop("the spool is full", e.datums)
	}
}

// notYet is the reason between having a client and its first use, which is no error.
const notYet = "nothing has been sent yet"

// holding reports whether there is nobody to send to and that is no fault: batches then stay in memory, in case
// credentials are found after all, and none of them is missed.
func (p *Publisher) holding() bool { return p.api == nil && p.config.Send == Auto }

// requests cuts ds into parts that one request can carry each.
func requests(ds []Datum) (parts [][]Datum) {
	const room = maxBody * 9 / 10
	start, size := 0, 0
	for i := range ds {
		n := ds[i].size()
		if i > start && (i-start >= maxDatums || size+n > room) {
			parts = append(parts, ds[start:i])
			start, size = i, 0
		}
		size += n
	}
	if start < len(ds) {
		parts = append(parts, ds[start:])
	}
	return parts
}
