package metrics

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/collectors"
)

func TestTicksFallOnMultiplesOfTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(1700 * time.Millisecond) // start between two multiples
		var at []time.Time
		l := &loop{interval: 5 * time.Second,
			gather: func(_ context.Context, at time.Time) collectors.Batch { return collectors.Batch{At: at} },
			sinks:  []func(collectors.Batch){func(b collectors.Batch) { at = append(at, b.At) }}}
		ctx, cancel := context.WithTimeout(t.Context(), 21*time.Second)
		defer cancel()
		l.run(ctx)
		if len(at) != 6 {
			t.Fatalf("%d ticks in 21 s, want one at once, four more and one at the end", len(at))
		}
		for i, a := range at[:5] {
			if want := time.Date(2000, 1, 1, 0, 0, 5*i, 0, time.UTC); !a.Equal(want) {
				t.Errorf("tick %d at %s, want %s", i, a.UTC(), want)
			}
		}
		if got := l.newest().At; !got.Equal(at[5]) {
			t.Errorf("newest is of %s", got)
		}
	})
}

// A count since the last tick is sampled at the stop, and a stuck collector does not delay it.
func TestTheEndIsATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		sampled := 0.0
		l := &loop{interval: 5 * time.Second,
			gather: func(ctx context.Context, at time.Time) collectors.Batch {
				if n.Load() > 0 { // one of them is stuck, from now on
					<-ctx.Done()
				}
				return collectors.Batch{At: at, Samples: []collectors.Sample{{Name: "n", Value: float64(n.Swap(0))}}}
			},
			sinks: []func(collectors.Batch){func(b collectors.Batch) { sampled += b.Samples[0].Value }}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(12*time.Second, func() { n.Add(1); cancel() })
		began := time.Now()
		l.run(ctx)
		if took := time.Since(began); sampled != 1 || took > 14*time.Second {
			t.Errorf("sampled %v of 1, ended %v after it began", sampled, took)
		}
	})
}

// A collection that takes longer than the interval loses ticks; it never makes
// two at once, nor a burst afterwards.
func TestSlowCollectionLosesTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		l := &loop{interval: time.Second, gather: func(_ context.Context, at time.Time) collectors.Batch {
			n++
			time.Sleep(2500 * time.Millisecond)
			return collectors.Batch{At: at}
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l.run(ctx)
		if n > 5 { // with the one at the end
			t.Errorf("%d collections in 10 s of 2.5 s each", n)
		}
	})
}

// What is done with a batch costs the host nothing but time, at every tick for months.
func TestATickAllocatesNothing(t *testing.T) {
	m, err := New(Config{Namespace: "N", Dimensions: [][]string{{"EnvironmentName"}}, Interval: time.Minute, Sample: 5 * time.Second, Send: "off"}, beside(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	b := collectors.Batch{Results: []collectors.Result{{Collector: "host"}, {Collector: "listen", Err: collectors.ErrNoData}},
		Samples: []collectors.Sample{{Name: "mem_total", Unit: collectors.Bytes, Value: 1}, {Name: "listen_backlog", Unit: collectors.Count},
			{Name: "group_cpu", Unit: collectors.Percent, Value: 3, Labels: []collectors.Label{{Key: "group", Value: webGroup}}}}}
	m.loop.gather = func(_ context.Context, at time.Time) collectors.Batch { b.At = at; return b }
	now := time.Unix(1e9, 0)
	if n := testing.AllocsPerRun(100, func() { m.loop.tick(t.Context(), now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
