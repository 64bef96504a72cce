package collectors

import (
	"cmp"
	"slices"
	"time"
)

// Reading a process's PSS costs about 6 µs a MB, during which its memory map is locked, so it is done by budget: see
// pssBudget. In between, a process counts as its resident memory times the share that was its own at the last reading.

// pssShare bounds PSS reading to one 5,000th of the time: 12 ms a minute.
const pssShare = 5000

// pssFirst is what a group just found may cost at once, for figures soon.
const pssFirst = 50 * time.Millisecond

// pssMinAge is how old a reading must be before growth makes it due again.
const pssMinAge = 5 * time.Second

// pssBudget is a purse of time that fills slowly and may be overdrawn by one reading, which it then takes the longer to
// make up for: a process so large that it takes 100 ms is read once in eight minutes.
type pssBudget struct {
	purse time.Duration
	at    time.Time
}

func (b *pssBudget) fill(now time.Time) {
	if b.at.IsZero() {
		b.purse = pssFirst
	} else {
		b.purse = min(b.purse+now.Sub(b.at)/pssShare, max(b.purse, time.Minute/pssShare))
	}
	b.at = now
}

func (b *pssBudget) open() bool            { return b.purse > 0 }
func (b *pssBudget) spend(d time.Duration) { b.purse -= d }

// pssReading is a process's smaps_rollup at one time.
type pssReading struct {
	smaps
	at       time.Time
	resident uint64 // resident memory as stat showed it then: the two files differ a little
	first    uint64 // PSS at the first reading
}

// estimate is the process's PSS now, when it has rss resident: the reading,
// scaled. A process cannot own more than it has.
func (r *pssReading) estimate(rss uint64) float64 {
	if r.resident == 0 {
		return float64(min(r.pss, rss))
	}
	return min(float64(r.pss)*float64(rss)/float64(r.resident), float64(rss))
}

// due reports whether a process is to be read: never yet, long ago, or it has
// grown or shrunk by a quarter since, as a worker does that has just started.
func (r *pssReading) due(rss uint64, now time.Time, every time.Duration) bool {
	age := now.Sub(r.at)
	moved := max(rss, r.resident) - min(rss, r.resident)
	return r.at.IsZero() || age >= every || age >= pssMinAge && moved > r.resident/4+1<<20
}

// urgency orders due processes: the smallest first, but each grows more urgent
// with its age, so that a large one's turn comes too. Smaller is sooner.
func (r *pssReading) urgency(rss uint64, now time.Time) float64 {
	if r.at.IsZero() {
		return float64(rss) / float64(time.Hour)
	}
	return float64(rss) / max(float64(now.Sub(r.at)), 1)
}

// sortByUrgency puts the members to read next first.
func sortByUrgency(ms []*member, now time.Time) {
	slices.SortFunc(ms, func(a, b *member) int {
		return cmp.Compare(a.reading.urgency(a.rss, now), b.reading.urgency(b.rss, now))
	})
}
