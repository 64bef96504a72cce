package collectors

import "time"

// cpuClock turns used CPU time, a counter, into percent of one CPU since it was
// last asked. The zero value has no last time and says so.
type cpuClock struct {
	used time.Duration
	at   time.Time
}

func (c *cpuClock) percent(used time.Duration, now time.Time) (percent float64, ok bool) {
	elapsed := now.Sub(c.at)
	ok = !c.at.IsZero() && elapsed > 0 && used >= c.used
	if ok {
		percent = 100 * float64(used-c.used) / float64(elapsed)
	}
	c.used, c.at = used, now
	return percent, ok
}
