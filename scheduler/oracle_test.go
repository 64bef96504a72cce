package scheduler

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The oracle knows nothing of offsets, transitions or bit masks: it walks a zone's clock
// minute by minute, writes down what the clock shows, and reads the rule of DESIGN.md §6
// off that. It reads the fields of an expression with a reader of its own.

// A walk is what a zone's clock showed, step by step.
type walk struct {
	from, to time.Time
	step     int64
	at, wall []int64
	seen     []bool // by the step of the wall clock reading, from lowest
	lowest   int64
}

// newWalk goes by a margin beyond both ends, so that what begins before and what is shown
// once more later is seen.
func newWalk(loc *time.Location, from, to time.Time, step, margin time.Duration) *walk {
	w := &walk{from: from, to: to, step: int64(step / time.Second)}
	for t := from.Add(-margin); !t.After(to.Add(margin)); t = t.Add(step) {
		l := t.In(loc)
		y, mo, d := l.Date()
		h, mi, s := l.Clock()
		w.at = append(w.at, t.Unix())
		w.wall = append(w.wall, time.Date(y, mo, d, h, mi, s, 0, time.UTC).Unix())
	}
	w.lowest = slices.Min(w.wall)
	w.seen = make([]bool, (slices.Max(w.wall)-w.lowest)/w.step+1)
	for _, wall := range w.wall {
		w.seen[(wall-w.lowest)/w.step] = true
	}
	return w
}

// due gives what the rule makes due in (from, to].
func (w *walk) due(expr string) []time.Time {
	on := newMatcher(expr)
	elapsed := strings.Fields(expr)[1] == "*"
	before := make([]bool, len(w.seen)) // shown already
	var out []time.Time
	for i, wall := range w.wall {
		k := (wall - w.lowest) / w.step
		due := on.matches(wall) && (elapsed || !before[k])
		before[k] = true
		if i > 0 && !elapsed {
			for gap := w.wall[i-1] + w.step; gap < wall && !due; gap += w.step {
				due = !w.seen[(gap-w.lowest)/w.step] && on.matches(gap)
			}
		}
		if t := time.Unix(w.at[i], 0); due && t.After(w.from) && !t.After(w.to) {
			out = append(out, t)
		}
	}
	return out
}

// A matcher is a five-field expression as five sets.
type matcher struct {
	fields         [5][60]bool
	anyDom, anyDow bool
}

func newMatcher(expr string) *matcher {
	m := &matcher{}
	f := strings.Fields(expr)
	for i, r := range [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 7}} {
		for v := r[0]; v <= r[1]; v++ {
			m.fields[i][v] = onField(f[i], v, r[0], r[1])
		}
	}
	m.fields[4][0] = m.fields[4][0] || m.fields[4][7]
	m.anyDom, m.anyDow = f[2][0] == '*', f[4][0] == '*' // cronie's src/entry.c
	return m
}

// matches reports whether a naive time is on the expression.
func (m *matcher) matches(wall int64) bool {
	days := wall / 86400
	if wall%86400 < 0 {
		days--
	}
	s := wall - days*86400
	if s%60 != 0 || !m.fields[0][s/60%60] || !m.fields[1][s/3600] {
		return false
	}
	t := time.Unix(wall, 0).UTC()
	dom, dow := m.fields[2][t.Day()], m.fields[4][t.Weekday()]
	if !m.fields[3][t.Month()] {
		return false
	}
	if m.anyDom || m.anyDow {
		return dom && dow
	}
	return dom || dow
}

func onField(list string, v, lowest, highest int) bool {
	for _, part := range strings.Split(list, ",") {
		body, by, stepped := strings.Cut(part, "/")
		low, high := lowest, highest
		if body != "*" {
			l, h, ranged := strings.Cut(body, "-")
			low, _ = strconv.Atoi(l)
			switch {
			case ranged:
				high, _ = strconv.Atoi(h)
			case !stepped:
				high = low
			}
		}
		step := 1
		if stepped {
			step, _ = strconv.Atoi(by)
		}
		if low <= v && v <= high && (v-low)%step == 0 {
			return true
		}
	}
	return false
}

// agree compares Next, asked again and again, with the oracle; and asked from anywhere
// near a change of the offset, which a chain of due times steps over.
func (w *walk) agree(t *testing.T, expr string, loc *time.Location) {
	t.Helper()
	s, err := parseSchedule(expr, false, loc)
	if err != nil {
		t.Fatal(err)
	}
	want := w.due(expr)
	for i, at := 0, w.from; ; i++ {
		at = s.Next(at)
		if i == len(want) {
			if !at.IsZero() && !at.After(w.to) {
				t.Errorf("%s %q: run %d at %v, the oracle has no more", loc, expr, i, at)
			}
			break
		}
		if !at.Equal(want[i]) {
			t.Errorf("%s %q: run %d at %v, the oracle says %v", loc, expr, i, at, want[i].In(loc))
			return
		}
	}
	for _, at := range w.nearChanges() {
		i, _ := slices.BinarySearchFunc(want, at.Add(1), time.Time.Compare)
		if i == len(want) || !at.After(w.from) {
			continue
		}
		if got := s.Next(at); !got.Equal(want[i]) {
			t.Errorf("%s %q: after %v comes %v, the oracle says %v", loc, expr, at.In(loc), got, want[i].In(loc))
			return
		}
	}
}

// nearChanges gives instants within a day of a change of the offset.
func (w *walk) nearChanges() []time.Time {
	day := int(86400 / w.step)
	var out []time.Time
	for i := day; i < len(w.at)-day; i += 7 * day / 1440 {
		before, after := w.wall[i-day]-w.at[i-day], w.wall[i+day]-w.at[i+day]
		if before != after {
			out = append(out, time.Unix(w.at[i], int64(i%2)*500_000_000))
		}
	}
	return out
}

var oracleExprs = []string{
	"30 2 * * *", "0 0 * * *", "*/15 1-4 * * *", "0 * * * *", "*/20 * * * 0", "15 */2 * * *",
	"59 23 * * *", "*/7 0-3,22-23 * * 6-7", "0 0 1 * 1", "1 0,12 28-31 2,3,10-12 *", "5/10 3 * 4-9/2 *",
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// Every day of a year, its leap day included.
func TestNextAgreesWithOracleOverAYear(t *testing.T) {
	loc := mustZone(t, "Europe/Berlin")
	from := time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWalk(loc, from, from.AddDate(1, 0, 0), time.Minute, 3*time.Hour)
	for _, expr := range oracleExprs {
		w.agree(t, expr, loc)
	}
}

// The days around every change of the clocks of twenty zones, for three years.
func TestNextAgreesWithOracleAroundTransitions(t *testing.T) {
	for _, name := range twentyZones {
		loc := mustZone(t, name)
		at := time.Date(2025, 1, 1, 0, 0, 0, 0, loc)
		for {
			_, end := at.ZoneBounds()
			if end.IsZero() || end.Year() > 2027 {
				break
			}
			at = end
			from := at.UTC().Truncate(time.Hour).Add(-30 * time.Hour)
			w := newWalk(loc, from, from.Add(60*time.Hour), time.Minute, 3*time.Hour)
			for _, expr := range oracleExprs {
				w.agree(t, expr, loc)
			}
		}
	}
}

// The last day of a leap year for which a zone has no entries, only a rule: 2040 with the tables of today, and
// 2028 where they were made without (zic -b slim). Go ends it before it began, golang/go#81583.
func TestNextGetsPastTheLastDayOfALeapYear(t *testing.T) {
	ruleOnly := "TZif2" + strings.Repeat("\x00", 15) + strings.Repeat("\x00", 16) + "\x00\x00\x00\x01\x00\x00\x00\x04" + "\x00\x00\x0e\x10\x00\x00CET\x00"
	ruleOnly += ruleOnly + "\nCET-1CEST,M3.5.0,M10.5.0/3\n"
	slim, err := time.LoadLocationFromTZData("slim", []byte(ruleOnly))
	if err != nil {
		t.Fatal(err)
	}
	zones := map[*time.Location]int{slim: 2028}
	for _, name := range twentyZones {
		zones[mustZone(t, name)] = 2040
	}
	for loc, year := range zones {
		from := time.Date(year, 12, 29, 12, 0, 0, 0, time.UTC)
		w := newWalk(loc, from, from.Add(96*time.Hour), time.Minute, 3*time.Hour)
		for _, expr := range oracleExprs {
			w.agree(t, expr, loc)
		}
	}
}

// twentyZones change their clocks in every way in use: by an hour, by thirty minutes, by
// two hours, at midnight, a minute past it, for Ramadan, in winter, and not at all.
var twentyZones = []string{
	"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca",
	"Europe/Dublin", "America/St_Johns", "Pacific/Chatham", "Asia/Beirut", "America/Havana",
	"Africa/Cairo", "America/Santiago", "Asia/Gaza", "Atlantic/Azores", "America/Nuuk",
	"Pacific/Norfolk", "Europe/London", "Australia/Adelaide", "Asia/Kathmandu", "UTC",
}

// Days on which a zone did what none does any more, or only once: a day that never was, a
// day that was twice, offsets with seconds, steps of minutes.
func TestNextAgreesWithOracleOnOddDays(t *testing.T) {
	for _, c := range []struct {
		zone, day string
		step      time.Duration // divides both offsets
	}{
		{"Pacific/Apia", "2011-12-30", time.Minute},         // skipped whole
		{"Pacific/Kwajalein", "1993-08-21", time.Minute},    // skipped whole
		{"Pacific/Kwajalein", "1969-09-30", time.Minute},    // back by 23 hours
		{"America/Juneau", "1867-10-18", time.Second},       // back by a day, seconds in the offset
		{"Asia/Manila", "1844-12-31", 4 * time.Second},      // skipped whole, the same
		{"America/Sao_Paulo", "2018-11-04", time.Minute},    // no midnight
		{"America/Sao_Paulo", "2018-02-18", time.Minute},    // the hour before midnight twice
		{"Asia/Pyongyang", "2015-08-15", time.Minute},       // back by 30 minutes at midnight
		{"Asia/Pyongyang", "2018-05-05", time.Minute},       // forward by 30
		{"America/Caracas", "2007-12-09", time.Minute},      // back by 30
		{"Asia/Kathmandu", "1986-01-01", time.Minute},       // forward by 15
		{"Asia/Singapore", "1982-01-01", time.Minute},       // forward by 30 at midnight
		{"Africa/Monrovia", "1972-01-07", 30 * time.Second}, // forward by 44:30
		{"Europe/Amsterdam", "1937-07-01", 4 * time.Second}, // forward by 28 seconds
		{"Europe/Paris", "1911-03-11", 3 * time.Second},     // back by 9:21
		{"Asia/Dhaka", "2009-12-31", time.Minute},           // back at midnight at the year's end
		{"Asia/Tehran", "2022-03-22", time.Minute},          // no midnight, offsets of half an hour
		{"Antarctica/Casey", "2020-10-04", time.Minute},     // forward by 3 hours, a minute past midnight
		{"Europe/Berlin", "1945-05-24", time.Minute},        // forward by an hour, summer upon summer
		{"Europe/London", "1947-04-13", time.Minute},        // double summer time
		{"America/Anchorage", "1983-10-30", time.Minute},    // back by two hours
		{"Europe/Warsaw", "1915-08-05", time.Minute},        // back by 24 minutes
	} {
		t.Run(c.zone+" "+c.day, func(t *testing.T) {
			loc := mustZone(t, c.zone)
			mid, err := time.ParseInLocation(time.DateOnly, c.day, loc)
			if err != nil {
				t.Fatal(err)
			}
			from := mid.Add(-40 * time.Hour).UTC().Truncate(time.Minute)
			w := newWalk(loc, from, from.Add(90*time.Hour), c.step, 48*time.Hour)
			exprs := oracleExprs
			if c.step == time.Second || raceDetector {
				exprs = exprs[:3] // a long walk
			}
			for _, expr := range exprs {
				w.agree(t, expr, loc)
			}
		})
	}
}
