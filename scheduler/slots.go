package scheduler

import (
	"fmt"
	"time"
)

// latest gives the last slot that is not after limit, first being one; the slots before (first, if it is that itself)
// and after it; and how many there are from first on. The count ends at a thousand.
func latest(sched Schedule, first, limit time.Time) (at, before, next time.Time, n int) {
	const most = 1000
	at, before = first, first
	for n = 1; ; n = min(n+1, most+1) {
		if n == most {
			at = skipAhead(sched, at, limit)
		}
		if next = sched.Next(at); next.IsZero() || next.After(limit) {
			return at, before, next, n
		}
		before, at = at, next
	}
}

// skipAhead gives a slot shortly before limit, but not the last one; or at, if that is
// later. The slots in between are not counted.
func skipAhead(sched Schedule, at, limit time.Time) time.Time {
	for w := time.Minute; ; w *= 2 {
		from := limit.Add(-w)
		if !from.After(at) {
			return at
		}
		if c := sched.Next(from); !c.IsZero() {
			if next := sched.Next(c); !next.IsZero() && !next.After(limit) {
				return c
			}
		}
	}
}

// slots names n slots by the last of them.
func slots(due time.Time, n int) string {
	if n > 1 {
		return fmt.Sprintf("%d slots, the last of %s", n, due.Format(time.RFC3339))
	}
	return "due " + due.Format(time.RFC3339)
}

// longestBackoff ends the doubling between retries.
const longestBackoff = time.Hour

// backoff doubles with each attempt that failed.
func backoff(first time.Duration, attempt int) time.Duration {
	d := first
	for ; attempt > 1 && d < longestBackoff; attempt-- {
		d *= 2
	}
	return min(d, max(first, longestBackoff))
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
