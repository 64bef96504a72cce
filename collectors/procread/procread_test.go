package procread

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A process that never answers costs one goroutine, however often it is asked, and all such processes maxReads.
func TestSilentProcessIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, reads := make(chan struct{}), 0
		defer func() { close(release); synctest.Wait() }()
		stuck := func() { <-release }
		ask := func(pid int, read func()) error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return Do(ctx, pid, read)
		}
		if err := ask(1, stuck); !errors.Is(err, ErrLate) || !errors.Is(err, ErrSilent) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		began := time.Now()
		for range 100 {
			if err := ask(1, func() { reads++ }); !errors.Is(err, ErrSilent) {
				t.Errorf("again: got %v", err)
			}
		}
		if reads != 0 || time.Since(began) != 0 {
			t.Errorf("asked %d times again, waited %v", reads, time.Since(began))
		}
		if err := ask(2, func() { reads++ }); err != nil || reads != 1 {
			t.Errorf("another process: %v", err)
		}
		for pid := 3; pid < 3+2*maxReads; pid++ {
			if err := ask(pid, stuck); err == nil {
				t.Error("a stuck read has ended")
			}
		}
		if len(under) != maxReads {
			t.Errorf("%d reads are under way, want %d", len(under), maxReads)
		}
	})
	if len(under) != 0 {
		t.Errorf("%d reads are left", len(under))
	}
}

// Two that ask for the same process at once are both answered.
func TestReadsOfOneProcessTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		for range 5 {
			go func() { done <- Do(t.Context(), 1, func() { time.Sleep(100 * time.Millisecond) }) }()
		}
		for range 5 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
