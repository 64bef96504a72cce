package sampling

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/collectors"
)

func TestTicksFallOnMultiplesOfTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1700 * time.Millisecond) // start between two multiples
		var at []time.Time
		l := &Loop{Interval: 5 * time.Second,
			Gather: func(_ context.Context, at time.Time) collectors.Batch { return collectors.Batch{At: at} },
			Sinks:  []func(collectors.Batch){func(b collectors.Batch) { at = append(at, b.At) }}}
		ctx, cancel := context.WithTimeout(t.Context(), 21*time.Second)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(at) != 5 {
			t.Fatalf("%d ticks in 21 s, want one at once and four more", len(at))
		}
		for i, a := range at {
			if want := time.Date(2000, 1, 1, 0, 0, 5*i, 0, time.UTC); !a.Equal(want) {
				t.Errorf("tick %d at %s, want %s", i, a.UTC(), want)
			}
		}
		if got := l.Last().At; !got.Equal(at[4]) {
			t.Errorf("Last is of %s", got)
		}
	})
}

// A collection that takes longer than the interval loses ticks; it never makes
// two at once, nor a burst afterwards.
func TestSlowCollectionLosesTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		l := &Loop{Interval: time.Second, Gather: func(_ context.Context, at time.Time) collectors.Batch {
			n++
			time.Sleep(2500 * time.Millisecond)
			return collectors.Batch{At: at}
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l.Run(ctx)
		if n > 4 {
			t.Errorf("%d collections in 10 s of 2.5 s each", n)
		}
	})
}
