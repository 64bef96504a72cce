package api

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyAnswers(t *testing.T) {
	err := NewClient(filepath.Join(t.TempDir(), "s")).Get(t.Context(), "/v1/status", nil)
	u, ok := errors.AsType[*Unreachable](err)
	if !ok || !strings.HasPrefix(err.Error(), "cannot reach the agent at ") || !strings.Contains(u.Hints()[0], "--direct") {
		t.Errorf("got %v", err)
	}
}

// Somebody who waits bears an agent that restarts, and is told of one that refuses.
func TestWaitBearsARestart(t *testing.T) {
	c := NewClient("unused")
	tries := 0
	err := c.Wait(t.Context(), time.Minute, func(context.Context) error {
		if tries++; tries < 3 {
			return &Unreachable{Socket: "s", Cause: syscall.ECONNREFUSED}
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
	refused := &Error{Message: "no"}
	if err := c.Wait(t.Context(), time.Minute, func(context.Context) error { return refused }); err != refused {
		t.Errorf("a refusal: %v", err)
	}
}

// A wait of hours bears each restart, not only the first: what counts is how long the agent is away at a stretch.
func TestWaitBearsASecondRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		gone := &Unreachable{Socket: "s", Cause: syscall.ECONNREFUSED}
		err := NewClient("unused").Wait(t.Context(), time.Minute, func(context.Context) error {
			switch tries++; tries {
			case 2, 4: // the output of a run, until the agent restarts
				time.Sleep(time.Hour)
				return io.ErrUnexpectedEOF
			case 6:
				return nil
			}
			return gone
		})
		if err != nil || tries != 6 {
			t.Errorf("%d tries, %v", tries, err)
		}
		if err := NewClient("unused").Wait(t.Context(), time.Minute, func(context.Context) error { return gone }); err != gone {
			t.Errorf("an agent that stays away: %v", err)
		}
	})
}
