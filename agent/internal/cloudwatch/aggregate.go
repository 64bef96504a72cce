package cloudwatch

import (
	"math"
	"slices"
	"time"

	"beanstalk-agent/collectors"
)

// Limits of what is kept in memory, far above what a host has. Samples beyond them count as dropped.
const (
	maxSeries  = 2000
	maxSamples = 3600 // of one series in one interval
	maxWindows = 4
	maxLabels  = 10
)

// aggregate collects samples by interval and series. An interval is [start, start+length): its start is the timestamp
// of its datums, because CloudWatch names a period by its beginning. A steady add allocates nothing: series and the
// space for their values are reused in the next interval.
type aggregate struct {
	interval time.Duration
	windows  []*window // oldest first
	spare    *window   // emptied, for reuse
	key      []byte    // reused
}

// window is one interval that is still open.
type window struct {
	start   time.Time
	samples int
	series  map[string]*series
	order   []*series // by first sample, for readers
}

// series is one metric without the dimension sets.
type series struct {
	key    string
	name   string // clean
	unit   string
	labels dimensions // clean
	bad    string     // why it cannot be sent, or ""
	values []float64  // of this interval, in no order
}

func newAggregate(interval time.Duration) *aggregate { return &aggregate{interval: interval} }

// add takes one sample, or returns why it is dropped.
func (a *aggregate) add(at time.Time, s collectors.Sample) string {
	w := a.at(at)
	if w == nil {
		return "too many open intervals"
	}
	return a.into(w, s)
}

func (a *aggregate) into(w *window, s collectors.Sample) string {
	if why := badValue(s.Value); why != "" {
		return why
	}
	a.key = appendKey(a.key[:0], s)
	r := w.series[string(a.key)]
	if r == nil {
		if len(w.order) >= maxSeries {
			return "too many series"
		}
		r = newSeries(string(a.key), s)
		w.series[r.key], w.order = r, append(w.order, r)
	}
	if r.bad != "" {
		return r.bad
	}
	if len(r.values) >= maxSamples {
		return "too many samples"
	}
	r.values = append(r.values, zeroTiny(s.Value))
	w.samples++
	return ""
}

// at returns the window of a time and opens it when needed; nil when too many are open.
func (a *aggregate) at(at time.Time) *window {
	start := at.UTC().Truncate(a.interval)
	for _, w := range slices.Backward(a.windows) {
		if w.start.Equal(start) {
			return w
		}
	}
	if len(a.windows) >= maxWindows {
		return nil
	}
	w := a.spare
	if w == nil {
		w = &window{series: map[string]*series{}}
	}
	a.spare, w.start = nil, start
	a.windows = append(a.windows, w)
	slices.SortFunc(a.windows, func(v, w *window) int { return v.start.Compare(w.start) })
	return w
}

// newest returns the last open window, or nil.
func (a *aggregate) newest() *window {
	if len(a.windows) == 0 {
		return nil
	}
	return a.windows[len(a.windows)-1]
}

// take removes and returns the windows that do not contain now, or all. Those after now count too: a clock that was
// stepped back must not keep an interval of the future open. Give each back with recycle.
func (a *aggregate) take(now time.Time, all bool) (done []*window) {
	start := now.UTC().Truncate(a.interval)
	a.windows = slices.DeleteFunc(a.windows, func(w *window) bool {
		over := all || !w.start.Equal(start)
		if over {
			done = append(done, w)
		}
		return over
	})
	return done
}

// recycle empties w for the next interval and removes the series that had no sample in it.
func (a *aggregate) recycle(w *window) {
	w.samples = 0
	w.order = slices.DeleteFunc(w.order, func(r *series) bool {
		if len(r.values) == 0 {
			delete(w.series, r.key)
			return true
		}
		r.values = r.values[:0]
		return false
	})
	a.spare = w
}

// count returns how many series the open window has, or the one before it.
func (a *aggregate) count() int {
	if w := a.newest(); w != nil && w.samples > 0 {
		return len(w.order)
	}
	if a.spare != nil {
		return len(a.spare.order)
	}
	return 0
}

func newSeries(key string, s collectors.Sample) *series {
	r := &series{key: key, name: clean(s.Name), unit: string(s.Unit)}
	if r.unit == "" {
		r.unit = string(collectors.None)
	}
	refuse := func(why string) {
		if r.bad == "" && why != "" {
			r.bad = "metric cannot be named or labelled so"
		}
	}
	refuse(badName(r.name))
	refuse(badUnit(r.unit))
	if len(s.Labels) > maxLabels {
		refuse("too many labels")
	}
	for _, l := range s.Labels {
		d := dimension{clean(l.Key), clean(l.Value)}
		refuse(badDimensionName(d.name))
		refuse(badDimensionValue(d.value))
		r.labels = append(r.labels, d)
	}
	return r
}

// appendKey appends the identity of a series. The unit is part of it, as in CloudWatch.
func appendKey(b []byte, s collectors.Sample) []byte {
	b = append(append(b, s.Name...), 0)
	b = append(append(b, s.Unit...), 0)
	for _, l := range s.Labels {
		b = append(append(b, l.Key...), 1)
		b = append(append(b, l.Value...), 0)
	}
	return b
}

// datums returns w's series in each of the dimension sets. A series with more than 150 distinct values becomes several
// datums: CloudWatch adds up those with the same name, dimensions and timestamp.
func datums(w *window, sets []dimensions) []Datum {
	out := make([]Datum, 0, len(w.order)*len(sets))
	for _, r := range w.order {
		values, counts := tally(r.values)
		for _, set := range sets {
			dims := make(map[string]string, len(set)+len(r.labels))
			for _, d := range set {
				dims[d.name] = d.value
			}
			for _, d := range r.labels { // a sample's own labels override the host's
				dims[d.name] = d.value
			}
			for lo := 0; lo < len(values); lo += maxValues {
				hi := min(lo+maxValues, len(values))
				d := Datum{Name: r.name, Unit: r.unit, Dimensions: dims}
				d.Values, d.Counts = values[lo:hi:hi], counts[lo:hi:hi]
				d.Value = mean(d.Values, d.Counts)
				out = append(out, d)
			}
		}
	}
	return out
}

// tally sorts vs in place and returns its distinct values and how often each occurs.
func tally(vs []float64) (values, counts []float64) {
	slices.Sort(vs)
	values, counts = make([]float64, 0, len(vs)), make([]float64, 0, len(vs))
	for _, v := range vs {
		if n := len(values); n > 0 && values[n-1] == v {
			counts[n-1]++
		} else {
			values, counts = append(values, v), append(counts, 1)
		}
	}
	return values, counts
}

// mean cannot overflow: each value is weighted before it is added.
func mean(values, counts []float64) float64 {
	var n, m float64
	for i, v := range values {
		n += counts[i]
		m += (v - m) * (counts[i] / n)
	}
	if math.IsNaN(m) {
		return 0
	}
	return m
}
