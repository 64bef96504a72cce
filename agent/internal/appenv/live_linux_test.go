package appenv

import (
	"context"
	"errors"
	"testing"
	"time"

	"beanstalk-agent/collectors/procread"
	"beanstalk-agent/packaging/testbed/hung"
)

// A process can withhold its environment for ever. Who asks is told so, and asking again costs no second thread.
func TestSilentProcessIsNotWaitedFor(t *testing.T) {
	r := New(Config{Root: hung.Mount(t, false)})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.readEnviron(ctx, 4711); !errors.Is(err, procread.ErrLate) {
		t.Errorf("got %v", err)
	}
	if _, err := r.readEnviron(t.Context(), 4711); !errors.Is(err, procread.ErrSilent) || errors.Is(err, procread.ErrLate) {
		t.Errorf("again: got %v", err)
	}
}
