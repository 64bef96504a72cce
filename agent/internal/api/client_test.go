package api

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
