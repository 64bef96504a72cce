package claim

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever a network does to a response, the store's clock is between the bounds, for as long as the two run alike; and a
// time has surely not passed when its reading by boot has not come.
func TestBoundsOfTheStoresClock(t *testing.T) {
	epoch := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for range 10_000 {
		var now time.Duration // the truth
		offset, boot := rand.N(100*time.Hour), rand.N(1000*time.Hour)
		store := func() time.Time { return epoch.Add(offset + now) }
		c := &storeClock{boot: func() time.Duration { return boot + now }}
		sent := c.boot()
		now += rand.N(3 * time.Second)
		h := http.Header{"Date": {store().UTC().Format(http.TimeFormat)}}
		now += rand.N(3 * time.Second)
		if !c.hear(h, sent) {
			t.Fatal("not heard")
		}
		for range 3 {
			now += rand.N(10 * time.Minute)
			if low, high := c.low(), c.high(); store().Before(low) || store().After(high) || high.Sub(low) > 8*time.Second {
				t.Fatalf("it is %s, bounds %s and %s", store(), low, high)
			}
		}
		at := store().Add(rand.N(time.Hour))
		if now = c.before(at) - boot; store().After(at) {
			t.Fatalf("at %s by boot it is %s, later than %s", c.before(at), store(), at)
		}
		if c.hear(http.Header{"Date": {"today"}}, 0) {
			t.Fatal("no date was taken for one")
		}
	}
}

// All times of a register are the store's: the hosts' own clocks, here hours behind it, are in none.
func TestTimesAreTheStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 2)
		f.ahead = 5 * time.Hour
		store := func() time.Time { return time.Now().Add(f.ahead) }
		near := func(got time.Time, want time.Time) bool { return got.Sub(want).Abs() < 10*time.Second }
		won := claimed(t, ss[0], alone(minute(0), Skip), Won).Run
		if !near(won.Claimed, store()) || !near(won.Renewed, store()) || !near(won.Until, store().Add(lease+margin+5*time.Second)) || !near(ss[0].Now(), store()) {
			t.Errorf("it is %s, and %+v", store(), won)
		}
		claimed(t, ss[1], alone(minute(1), Skip), Busy)
		ss[1].SetPause(t.Context(), "job", &Pause{By: "ops"})
		ss[0].Finish(t.Context(), "job", minute(0), Result{Outcome: "exit 0"})
		if r, err := ss[1].Read(t.Context(), "job"); err != nil || !near(r.Runs[0].Finished, store()) || !near(r.Paused.Since, store()) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A host whose store was not heard for long reads before it writes: its clock may have drifted.
func TestAnOldClockIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, ss := fleet(t, 1)
		for i, gap := range []time.Duration{time.Minute, lease + time.Minute} {
			claimed(t, ss[0], beside(minute(2*i)), Won)
			f.gets = 0
			time.Sleep(gap)
			claimed(t, ss[0], beside(minute(2*i+1)), Won)
			if f.gets != i {
				t.Errorf("after %s it read %d times", gap, f.gets)
			}
		}
	})
}
