package cloudwatch

import (
	"time"

	"beanstalk-agent/collectors"
)

// closeInterval spools the datums of the intervals that are over, or of all.
func (p *Publisher) closeInterval(now time.Time, all bool) {
	p.next.boundary = boundary(now, p.config.Interval)
	if !p.memoryOnly() {
		p.spool.flush()
	}
	p.spool.startInterval()
	for _, c := range p.takeClosed(now, all) {
		if p.config.Send == Off {
			continue
		}
		for _, part := range requests(c.datums) {
			p.store(p.config.Namespace, c.at, part, 0)
		}
	}
	p.updateQueue()
	switch {
	case p.inFlight:
	case len(p.spool.entries) == 0:
		p.goIdle()
	case !p.next.paused:
		p.next.send = now.Add(p.next.offset)
	}
}

// goIdle is called when Run has nothing to do for a while.
func (p *Publisher) goIdle() {
	if p.config.Published != nil {
		p.config.Published()
	}
}

// closed is one interval that is over.
type closed struct {
	at     time.Time
	datums []Datum
}

// takeClosed removes the intervals that are over from the aggregate and adds the publisher's own counters to them.
func (p *Publisher) takeClosed(now time.Time, all bool) (out []closed) {
	sets := p.lookUpDimensions()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.aggregate.take(now, all) {
		if w.samples > 0 {
			p.addOwnLocked(w)
			c := closed{w.start, datums(w, sets)}
			p.last = Payload{p.config.Namespace, c.datums}
			if len(sets) == 0 {
				p.dropLocked("no dimension is known", uint64(len(w.order)))
			} else {
				out = append(out, c)
			}
		}
		p.aggregate.recycle(w)
	}
	return out
}

// addOwnLocked adds the publisher's own counters to w, but no zeros: CloudWatch charges for a series that is always
// zero. An alarm on them treats missing data as good. Losses are published once batches arrive again: a batch of the
// outage may itself be dropped, with the counters in it.
func (p *Publisher) addOwnLocked(w *window) {
	count := func(name string, v uint64) {
		if v > 0 {
			p.aggregate.into(w, collectors.Sample{Name: name, Unit: collectors.Count, Value: float64(v)})
		}
	}
	count("metrics_spooled", uint64(p.queue.datums))
	if p.state == Sending {
		count("metrics_dropped", p.counts.unreported.dropped)
		count("possible_duplicates", p.counts.unreported.duplicates)
		p.counts.unreported = unreported{}
	}
}

// store puts one request into the spool and counts the entries that made room for it. ambiguous is how many earlier
// sendings of ds may have been applied.
func (p *Publisher) store(namespace string, at time.Time, ds []Datum, ambiguous int) {
	rec, err := encodeRecord(namespace, at, ds)
	if err != nil {
		p.drop("cannot be encoded", len(ds))
		return
	}
	if p.memoryOnly() {
		p.spool.putInMemory(at, len(ds), rec)
		return
	}
	before := p.spool.diskErr
	e, lost := p.spool.put(at, len(ds), rec)
	e.decoded = &batch{e, namespace, at, ds}
	if ambiguous > 0 {
		p.spool.mark(e, ambiguous)
	}
	if p.spool.diskErr != nil && before == nil && p.spool.dir != "" {
		p.logger.Warn("metrics are spooled in memory", "err", p.spool.diskErr)
	}
	for _, e := range lost {
		p.drop("the spool is full", e.datums)
	}
}

// memoryOnly reports whether there is no client and that is no fault: batches then stay in memory, in case
// credentials are found later, and do not count as dropped.
func (p *Publisher) memoryOnly() bool { return p.api == nil && p.config.Send == Auto }

// requests splits ds into parts that fit one request each.
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
