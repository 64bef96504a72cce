package lifecycle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/packaging/testbed/planted"
)

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) service(name string) Service {
	return Service{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(time.Second) // in a bubble: shows that the next waits for it
		j.add(name)
		return ctx.Err()
	}}
}

func TestStopsInReverseAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if err := Run(ctx, planted.Log(t), j.service("first"), j.service("second"), j.service("third")); err != nil {
			t.Fatal(err)
		}
		if want := []string{"third", "second", "first"}; !slices.Equal(j.lines, want) {
			t.Errorf("stopped in order %v, want %v", j.lines, want)
		}
	})
}

func TestOneFailureStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		broken := Service{Name: "broken", Run: func(context.Context) error { return errors.New("no socket") }}
		err := Run(t.Context(), planted.Log(t), j.service("first"), broken)
		if err == nil || err.Error() != "broken: no socket" {
			t.Errorf("got %v", err)
		}
		if len(j.lines) != 1 {
			t.Error("the other service was not stopped")
		}
	})
}

// A service with nothing to do on this host may end; the others go on.
func TestNothingToDoIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begin := time.Now()
		idle := Service{Name: "idle", Run: func(context.Context) error { return nil }}
		if err := Run(ctx, planted.Log(t), idle); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) != time.Hour {
			t.Error("ended before its context did")
		}
	})
}

func TestPanicAndOverstay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := Service{Name: "stuck", Grace: time.Second, Run: func(context.Context) error { <-release; return nil }}
		wild := Service{Name: "wild", Run: func(context.Context) error { panic("nil map") }}
		err := Run(t.Context(), planted.Log(t), stuck, wild)
		if !errors.Is(err, ErrOverstayed) || !strings.Contains(err.Error(), "wild: panic: nil map") {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}
