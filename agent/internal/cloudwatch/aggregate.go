package cloudwatch

import (
	"maps"
	"math"
	"slices"
	"time"

	"beanstalk-agent/collectors"
)

// Bounds of what is kept in memory. Both are far above what a host has; what is beyond them is counted as dropped.
const (
	maxSeries  = 2000
	maxSamples = 3600 // of one series in one interval
	maxWindows = 4
	maxLabels  = 10
)

// fold gathers samples by interval and series. An interval is [start, start+length): its start is the timestamp of its
// datums, because CloudWatch names a period by its beginning. A steady add allocates nothing: series and the room for
// their values are kept from one interval to the next.
type fold struct {
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
	order   []*series // as they first came, which is how people read them
}

// series is one metric before the dimension sets are put to it.
type series struct {
	key    string
	name   string // clean
	unit   string
	labels dimensions // clean
	bad    string     // why it cannot be sent, or ""
	values []float64  // of this interval, in no order
}

func newFold(interval time.Duration) *fold { return &fold{interval: interval} }

// add takes one sample, or returns why it cannot.
func (f *fold) add(at time.Time, s collectors.Sample) string {
	w := f.at(at)
	if w == nil {
		return "too many open intervals"
	}
	return f.into(w, s)
}

func (f *fold) into(w *window, s collectors.Sample) string {
	if why := badValue(s.Value); why != "" {
		return why
	}
	f.key = appendKey(f.key[:0], s)
	r := w.series[string(f.key)]
	if r == nil {
		if len(w.order) >= maxSeries {
			return "too many series"
		}
		r = newSeries(string(f.key), s)
		w.series[r.key], w.order = r, append(w.order, r)
	}
	if r.bad != "" {
		return r.bad
	}
	if len(r.values) >= maxSamples {
		return "too many samples"
	}
	r.values = append(r.values, tame(s.Value))
	w.samples++
	return ""
}

// at returns the window of a moment, opening it when needed.
func (f *fold) at(at time.Time) *window {
	start := at.UTC().Truncate(f.interval)
	for _, w := range slices.Backward(f.windows) {
		if w.start.Equal(start) {
			return w
		}
	}
	if len(f.windows) >= maxWindows {
		return nil
	}
	w := f.spare
	if w == nil {
		w = &window{series: map[string]*series{}}
	}
	f.spare, w.start = nil, start
	f.windows = append(f.windows, w)
	slices.SortFunc(f.windows, func(a, b *window) int { return a.start.Compare(b.start) })
	return w
}

// newest returns the last open window, or nil.
func (f *fold) newest() *window {
	if len(f.windows) == 0 {
		return nil
	}
	return f.windows[len(f.windows)-1]
}

// take removes and returns the windows that now is not in, or all. That a window ends when now is outside, not when
// now is after it, keeps a clock that was stepped back from holding an interval of the future open.
// Give each back with recycle.
func (f *fold) take(now time.Time, all bool) (done []*window) {
	start := now.UTC().Truncate(f.interval)
	f.windows = slices.DeleteFunc(f.windows, func(w *window) bool {
		over := all || !w.start.Equal(start)
		if over {
			done = append(done, w)
		}
		return over
	})
	return done
}

// recycle empties w for the next interval. Series that had no sample in it are forgotten.
func (f *fold) recycle(w *window) {
	w.samples = 0
	w.order = slices.DeleteFunc(w.order, func(r *series) bool {
		if len(r.values) == 0 {
			delete(w.series, r.key)
			return true
		}
		r.values = r.values[:0]
		return false
	})
	f.spare = w
}

// count returns how many distinct series were seen in the open window, or the one before.
func (f *fold) count() int {
	if w := f.newest(); w != nil && w.samples > 0 {
		return len(w.order)
	}
	if f.spare != nil {
		return len(f.spare.order)
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

// appendKey appends what tells one series from another. The unit is part: CloudWatch keeps units apart too.
func appendKey(b []byte, s collectors.Sample) []byte {
	b = append(append(b, s.Name...), 0)
	b = append(append(b, s.Unit...), 0)
	for _, l := range s.Labels {
		b = append(append(b, l.Key...), 1)
		b = append(append(b, l.Value...), 0)
	}
	return b
}

// datums returns w's series in each of the dimension sets, a series with more than 150 distinct values as several
// datums: CloudWatch adds up what has one name, dimensions and timestamp.
func datums(w *window, sets []dimensions) []Datum {
	out := make([]Datum, 0, len(w.order)*len(sets))
	for _, r := range w.order {
		values, counts := tally(r.values)
		for _, set := range sets {
			dims := make(map[string]string, len(set)+len(r.labels))
			for _, d := range set {
				dims[d.name] = d.value
			}
			for _, d := range r.labels { // a sample knows better than the host
				dims[d.name] = d.value
			}
			for lo := 0; lo < len(values); lo += maxValues {
				hi := min(lo+maxValues, len(values))
				d := Datum{Name: r.name, Unit: r.unit, Dimensions: dims, Values: values[lo:hi:hi], Counts: counts[lo:hi:hi]}
				d.Value = mean(d.Values, d.Counts)
				out = append(out, d)
			}
		}
	}
	return out
}

// tally sorts vs in place and returns its distinct values with their numbers.
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

// mean cannot overflow: each value is weighed before it is added.
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

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
