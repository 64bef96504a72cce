package claim

import (
	"net/http"
	"sync/atomic"
	"time"
)

// storeClock bounds the store's clock, which is one for all instances, by the Date of its last response. The host's own
// wall clock is never asked: it steps, and no two are the same.
type storeClock struct {
	boot  func() time.Duration // this host's clock that does not step and goes on during a suspend
	heard atomic.Pointer[response]
}

// response is when a request was sent and answered, by boot, and the Date of the answer, which is cut to the second.
type response struct {
	date           time.Time
	sent, received time.Duration
}

// hear takes the time from a response to a request that was sent at sent, and reports whether it has one.
func (c *storeClock) hear(h http.Header, sent time.Duration) bool {
	date, err := http.ParseTime(h.Get("Date"))
	if err == nil {
		c.heard.Store(&response{date, sent, c.boot()})
	}
	return err == nil
}

// fresh reports whether the last response is recent enough for the two clocks not to have drifted apart.
func (c *storeClock) fresh() bool {
	r := c.heard.Load()
	return r != nil && c.boot()-r.received < lease
}

// low is a time that the store's clock has reached. A run is dead when low is after its Until. Before the first
// response it is the host's time.
func (c *storeClock) low() time.Time {
	r := c.heard.Load()
	if r == nil {
		return time.Now().UTC()
	}
	return r.date.Add(c.boot() - r.received).UTC()
}

// high is a time that the store's clock has not passed.
func (c *storeClock) high() time.Time {
	r := c.heard.Load()
	if r == nil {
		return time.Now().UTC()
	}
	return r.date.Add(time.Second + c.boot() - r.sent).UTC()
}

// before is the time by boot until which the store's clock has surely not passed t.
func (c *storeClock) before(t time.Time) time.Duration {
	r := c.heard.Load()
	if r == nil {
		return 0
	}
	return r.sent + t.Sub(r.date) - time.Second
}
