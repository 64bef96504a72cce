package scheduler

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// A Schedule says when something is due. Next gives the first due time after t, in the
// schedule's own zone, or the zero time when there is none.
type Schedule interface {
	Next(t time.Time) time.Time
}

// every is due at each multiple of itself since the Unix epoch.
type every struct {
	period time.Duration
	loc    *time.Location
}

func (e every) Next(t time.Time) time.Time {
	p := int64(e.period / time.Second)
	n := t.Unix() / p
	if t.Unix()%p < 0 {
		n--
	}
	return time.Unix((n+1)*p, 0).In(e.loc)
}

const (
	star    = 1 << 63 // robfig's mark of a field that restricts nothing
	allDoms = 1<<32 - 2
	allDows = 1<<7 - 1
)

// zoned is a cron expression in a zone. robfig's Next is called only with naive times, wall clock readings written as
// if they were UTC: it loses runs where a zone's offset changes. A naive time is compared and subtracted as any other.
type zoned struct {
	spec    cron.SpecSchedule // its Location is UTC
	loc     *time.Location
	elapsed bool // the hour field admits all 24 hours
}

func (z *zoned) Next(t time.Time) time.Time {
	t = time.Unix(t.Unix(), 0).In(z.loc)
	if z.elapsed {
		return z.nextElapsed(t)
	}
	return z.nextWall(t)
}

// nextElapsed finds the first instant after t whose wall clock reading is on the
// schedule, one stretch of constant offset at a time.
func (z *zoned) nextElapsed(t time.Time) time.Time {
	after := naive(t)
	for {
		w := z.nextNaive(after)
		if w.IsZero() {
			return time.Time{}
		}
		at := t.Add(w.Sub(naive(t)))
		end := stretchEnd(t)
		if end.IsZero() || at.Before(end) {
			return at
		}
		// The offset changes first: go on from the second before its first.
		t, after = end, naive(end).Add(-time.Second)
	}
}

// nextWall finds the first wall clock reading on the schedule that the clock had not
// reached by t, then the instant at which it is reached or passed.
func (z *zoned) nextWall(t time.Time) time.Time {
	w := z.nextNaive(reached(t))
	if w.IsZero() {
		return time.Time{}
	}
	return reach(t, w)
}

// nextNaive is robfig's Next without its limit of five years: the 29th of February can be eight years away, and where
// it must be a Sunday forty. Zero means never.
func (z *zoned) nextNaive(w time.Time) time.Time {
	searches := 3
	if z.both() && z.spec.Dow&allDows != allDows {
		searches = 8
	}
	for range searches {
		if next := z.spec.Next(w); !next.IsZero() {
			return next
		}
		w = time.Date(w.Year()+6, 1, 1, 0, 0, -1, 0, time.UTC)
	}
	return time.Time{}
}

// both reports whether a day must be in both fields of days.
func (z *zoned) both() bool { return (z.spec.Dom|z.spec.Dow)&star != 0 }

// isNever reports whether there is no such day. Each day that a month has is each weekday in some year.
func (z *zoned) isNever() bool {
	any := zoned{spec: z.spec}
	if z.both() {
		any.spec.Dow |= allDows
	}
	return any.nextNaive(time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC)).IsZero()
}

// stretchEnd is when the zone's offset at t can next change; zero where it never does. On the
// last day of a leap year beyond the zone's table, Go's ZoneBounds gives an end before t
// (golang/go#81583), with which a loop over stretches would not pass that day.
func stretchEnd(t time.Time) time.Time {
	_, end := t.ZoneBounds()
	if end.IsZero() || end.After(t) {
		return end
	}
	return time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC).In(t.Location())
}

// naive gives the wall clock reading at t as if it were UTC.
func naive(t time.Time) time.Time {
	_, offset := t.Zone()
	return time.Unix(t.Unix()+int64(offset), 0).UTC()
}

// reached gives the latest reading the wall clock has shown at t or before: later than
// the present one while a repeated stretch passes for the second time.
func reached(t time.Time) time.Time {
	// No zone ever set its clock back by more than a day (Alaska in 1867, Kwajalein in
	// 1969), so a time shown more than two days ago cannot be ahead.
	const lookBack = 48 * time.Hour
	latest := naive(t)
	for start, _ := t.ZoneBounds(); !start.IsZero() && t.Sub(start) < lookBack; {
		before := start.Add(-time.Second)
		if w := naive(before); w.After(latest) {
			latest = w
		}
		start, _ = before.ZoneBounds()
	}
	return latest
}

// reach gives the first instant after t at which the wall clock shows w or later. It must not have shown it by t.
func reach(t, w time.Time) time.Time {
	for {
		at := t.Add(w.Sub(naive(t)))
		end := stretchEnd(t)
		if end.IsZero() || at.Before(end) {
			return at
		}
		if !naive(end).Before(w) {
			return end // skipped: the gap ends here
		}
		t = end
	}
}

// explain says why a run at the due time at is not where the file puts it, or "".
func explain(s Schedule, at time.Time) string {
	z, ok := s.(*zoned)
	if !ok {
		return ""
	}
	at = at.In(z.loc)
	w := naive(at)
	if z.elapsed {
		if reached(at).After(w) {
			return fmt.Sprintf("%s happens twice in %s: this is the second time", clock(w), z.loc)
		}
		return ""
	}
	if note := z.explainGap(at); note != "" {
		return note
	}
	if end := stretchEnd(at); !end.IsZero() && !w.Before(naive(end)) {
		return fmt.Sprintf("%s happens twice in %s: runs the first time", clock(w), z.loc)
	}
	return ""
}

// explainGap names the wall clock times that do not exist and are due at instead.
func (z *zoned) explainGap(at time.Time) string {
	shown := naive(at)
	first := z.nextNaive(reached(at.Add(-time.Second)))
	if first.IsZero() || !first.Before(shown) {
		return ""
	}
	last := first
	for n := z.nextNaive(last); n.Before(shown) && !n.IsZero(); n = z.nextNaive(n) {
		last = n
	}
	runs := hour(shown)
	if shown.YearDay() != first.YearDay() {
		runs = clock(shown)
	}
	if last.Equal(first) {
		return fmt.Sprintf("%s does not exist in %s: runs %s", clock(first), z.loc, runs)
	}
	to := hour(last)
	if last.YearDay() != first.YearDay() {
		to = clock(last)
	}
	return fmt.Sprintf("%s to %s do not exist in %s: runs once at %s", clock(first), to, z.loc, runs)
}

// clock writes a naive time, with seconds only where they are not 0.
func clock(w time.Time) string { return w.Format("2006-01-02 ") + hour(w) }

func hour(w time.Time) string {
	if w.Second() != 0 {
		return w.Format("15:04:05")
	}
	return w.Format("15:04")
}
