package collectors

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a collector made of a function.
type fake struct {
	name    string
	collect func(context.Context) ([]Sample, error)
}

func (f fake) Name() string                                  { return f.name }
func (f fake) Collect(ctx context.Context) ([]Sample, error) { return f.collect(ctx) }

func one(name string) fake {
	out := []Sample{{Name: name, Unit: Count, Value: 1}}
	return fake{name, func(context.Context) ([]Sample, error) { return out, nil }}
}

func value(b Batch, name, label string) (float64, bool) {
	for _, s := range b.Samples {
		if s.Name == name && (label == "" || len(s.Labels) == 1 && s.Labels[0].Value == label) {
			return s.Value, true
		}
	}
	return 0, false
}

func TestGatherTellsHowEachFared(t *testing.T) {
	boom := errors.New("boom")
	at := time.Unix(1000, 0)
	g := NewGatherer(time.Second,
		one("good"),
		fake{"bad", func(context.Context) ([]Sample, error) { return []Sample{{Name: "partial"}}, boom }},
		fake{"absent", func(context.Context) ([]Sample, error) { return nil, ErrNoData }},
		fake{"panics", func(context.Context) ([]Sample, error) { panic("argh") }},
		fake{"exits", func(context.Context) ([]Sample, error) { runtime.Goexit(); return nil, nil }})
	defer g.Close()
	b := g.Gather(t.Context(), at)
	if !b.At.Equal(at) {
		t.Errorf("timestamp: got %v, want the one given, %v", b.At, at)
	}
	for name, want := range map[string]float64{"good": 1, "bad": 0, "panics": 0, "exits": 0} {
		if got, ok := value(b, "collector_ok", name); !ok || got != want {
			t.Errorf("collector_ok of %s: got %v, %v; want %v", name, got, ok, want)
		}
	}
	if _, ok := value(b, "collector_ok", "absent"); ok {
		t.Error("collector_ok of a collector without data: want none, it is no fault")
	}
	if _, ok := value(b, "partial", ""); !ok {
		t.Error("what a failing collector could read was dropped")
	}
	if _, ok := errors.AsType[*PanicError](b.Results[3].Err); !ok {
		t.Errorf("panic: got %v, want a PanicError", b.Results[3].Err)
	}
	if b.Results[4].Err == nil {
		t.Error("a collector that ended its goroutine counts as good")
	}
}

// A stuck collector must cost its own samples only, must not be started again
// while it is stuck, and must count again once it is back.
func TestStuckCollectorStallsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, started := make(chan struct{}), atomic.Int32{}
		stuck := fake{"stuck", func(ctx context.Context) ([]Sample, error) {
			started.Add(1)
			<-release
			return []Sample{{Name: "late"}}, nil
		}}
		g := NewGatherer(time.Second, stuck, one("good"))
		for range 3 {
			before := time.Now()
			b := g.Gather(t.Context(), before)
			if took := time.Since(before); took > time.Second {
				t.Fatalf("gather took %v, want at most the limit", took)
			}
			if _, ok := value(b, "good", ""); !ok {
				t.Fatal("the good collector's sample is missing")
			}
			if !errors.Is(b.Results[0].Err, ErrLimit) {
				t.Fatalf("stuck: got %v, want ErrLimit", b.Results[0].Err)
			}
		}
		if n := started.Load(); n != 1 {
			t.Fatalf("the stuck collector was started %d times, want once", n)
		}
		close(release)
		synctest.Wait()
		b := g.Gather(t.Context(), time.Now())
		if _, ok := value(b, "late", ""); !ok || b.Results[0].Err != nil {
			t.Errorf("after its return: got %v, want it asked again", b.Results[0].Err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A count is told once: one that comes too late for its own Gather, as when the
// host is out of memory, must not be lost.
func TestALateCountIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, out := 0, make([]Sample, 1)
		g := NewGatherer(time.Second, fake{"slow", func(context.Context) ([]Sample, error) {
			asked++
			time.Sleep([]time.Duration{0, 1500 * time.Millisecond, 3 * time.Second}[asked%3])
			out[0] = Sample{Name: "n", Value: 1}
			return out, nil
		}})
		sum := 0.0
		for range 20 {
			began := time.Now()
			for _, s := range g.Gather(t.Context(), began).Samples {
				if s.Name == "n" {
					sum += s.Value
				}
			}
			time.Sleep(time.Until(began.Add(1200 * time.Millisecond)))
		}
		g.Close()
		if asked < 8 || sum < float64(asked-1) {
			t.Errorf("counted %d times, %v told", asked, sum)
		}
	})
}

func TestCollectorSeesTheLimitInItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		g := NewGatherer(time.Second, fake{"polite", func(ctx context.Context) ([]Sample, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, ctx.Err()
		}})
		g.Gather(t.Context(), time.Now())
		synctest.Wait()
		if !errors.Is(cause, ErrLimit) {
			t.Errorf("cause: got %v, want ErrLimit", cause)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestGatherEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("going away")
		ctx, cancel := context.WithCancelCause(t.Context())
		g := NewGatherer(time.Hour, fake{"polite", func(ctx context.Context) ([]Sample, error) {
			<-ctx.Done()
			return nil, nil
		}})
		time.AfterFunc(time.Second, func() { cancel(gone) })
		b := g.Gather(ctx, time.Now())
		if !errors.Is(b.Results[0].Err, gone) && b.Results[0].Err != nil {
			t.Errorf("got %v, want the cause", b.Results[0].Err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseNamesTheStuckOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		g := NewGatherer(time.Second, fake{"deaf", func(context.Context) ([]Sample, error) {
			<-release
			return nil, nil
		}})
		g.Gather(t.Context(), time.Now())
		if err := g.Close(); err == nil {
			t.Error("close with a stuck collector: got nil, want its name")
		}
	})
}

func TestSteadyGatherAllocatesNothing(t *testing.T) {
	g := NewGatherer(time.Second, one("a"), one("b"), one("c"))
	defer g.Close()
	ctx, at := t.Context(), time.Now()
	g.Gather(ctx, at)
	if n := testing.AllocsPerRun(100, func() { g.Gather(ctx, at) }); n > 0 {
		t.Errorf("got %v allocations a tick, want 0", n)
	}
}

func TestCloneOutlivesTheNextGather(t *testing.T) {
	n := 0.0
	out := make([]Sample, 1)
	g := NewGatherer(time.Second, fake{"n", func(context.Context) ([]Sample, error) {
		n++
		out[0] = Sample{Name: "n", Value: n}
		return out, nil
	}})
	defer g.Close()
	first := g.Gather(t.Context(), time.Now()).Clone()
	g.Gather(t.Context(), time.Now())
	if got, _ := value(first, "n", ""); got != 1 {
		t.Errorf("the clone's value became %v, want 1", got)
	}
}
