package health

import (
	"slices"
	"time"

	"beanstalk-agent/collectors"
)

// ring keeps the last results, and of a day those that differ from the one before them: an outage of an hour, asked
// about each few seconds, would push its own beginning out.
type ring struct {
	results [50]Result
	next    int
	full    bool
	changes []Result // oldest first
}

const (
	keepChanges = 24 * time.Hour
	maxChanges  = 200
)

// differs reports whether the application's state is another than it was with before.
func (r Result) differs(before Result) bool {
	return r.Healthy != before.Healthy || r.Unknown != before.Unknown || r.Status != before.Status
}

func (r *ring) add(x Result) {
	last := r.results[(r.next+len(r.results)-1)%len(r.results)]
	if last.At.IsZero() || x.differs(last) {
		r.changes = append(r.changes, x)
	}
	old := len(r.changes) - maxChanges
	for i, c := range r.changes {
		if x.At.Sub(c.At) > keepChanges {
			old = max(old, i+1)
		}
	}
	r.changes = slices.Delete(r.changes, 0, max(old, 0))
	r.results[r.next] = x
	r.next = (r.next + 1) % len(r.results)
	r.full = r.full || r.next == 0
}

// list returns a copy, oldest first: the changes before the last results, and then those.
func (r *ring) list() []Result {
	if !r.full {
		return slices.Clone(r.results[:r.next])
	}
	oldest := r.results[r.next].At
	earlier := slices.IndexFunc(r.changes, func(c Result) bool { return !c.At.Before(oldest) })
	if earlier < 0 {
		earlier = len(r.changes)
	}
	return slices.Concat(r.changes[:earlier], r.results[r.next:], r.results[:r.next])
}

// Figures are counts since New, for metrics.
type Figures struct {
	State     State
	Asked     uint64        // requests on the health path
	Probes    uint64        // requests to the application
	Failures  uint64        // of Probes
	Shed      uint64        // connections closed because too many were open or too slow
	Latency   time.Duration // of the last probe
	LastProbe time.Time     // zero: none yet
	LastState time.Time     // when State was last a result's, changed or not; zero: never
}

func (f *Figures) count(r Result) {
	f.Probes++
	if !r.Healthy {
		f.Failures++
	}
	f.Latency = time.Duration(r.LatencyMS * float64(time.Millisecond))
	f.LastProbe = r.At
}

// askedWithin is longer than any load balancer's time between two checks (300 s).
const askedWithin = 10 * time.Minute

// Samples appends the verdict and the latency, as long as requests come: a verdict of long ago is not the present one,
// and an unknown state is no verdict.
func (c *Checker) Samples(out []collectors.Sample) []collectors.Sample {
	return c.Figures().Samples(out)
}

// Samples is Checker.Samples for given figures.
func (f Figures) Samples(out []collectors.Sample) []collectors.Sample {
	if time.Since(f.LastProbe) > askedWithin {
		return out
	}
	if f.State != "" && f.State != Unknown && time.Since(f.LastState) <= askedWithin {
		bad := 0.0
		if f.State == Unhealthy {
			bad = 1
		}
		out = append(out, collectors.Sample{Name: "health_unhealthy", Unit: collectors.Count, Value: bad})
	}
	latency := float64(f.Latency) / float64(time.Millisecond)
	return append(out, collectors.Sample{Name: "health_latency", Unit: collectors.Milliseconds, Value: latency})
}
