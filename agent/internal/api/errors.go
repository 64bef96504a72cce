package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
)

// Error is a failure with what to do about it: what a refused or failed request answers, and what a verb ends with.
// session.Refusal has the same shape, as the supervisor writes it.
type Error struct {
	Message string `json:"error"`
	Hint    string `json:"hint,omitempty"` // what to do about it, one thing a line
	Exit    int    `json:"code,omitempty"` // what an exec exits with: 125, 126 or 127
	Status  int    `json:"-"`              // HTTP
}

func (e *Error) Error() string { return e.Message }

// Hints says what to do about it.
func (e *Error) Hints() []string {
	if e.Hint == "" {
		return nil
	}
	return strings.Split(e.Hint, "\n")
}

// Unavailable is the error of what cannot be answered yet, or not on this host.
func Unavailable(err error) error {
	return &Error{Status: http.StatusServiceUnavailable, Message: err.Error(), Exit: 125}
}

// Unreachable is returned when no agent answers at the socket.
type Unreachable struct {
	Socket string
	Cause  error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("cannot reach the agent at %s: %v", e.Socket, e.Cause)
}

func (e *Unreachable) Unwrap() error { return e.Cause }

// Hints says how to look at the agent and how to do without it.
func (e *Unreachable) Hints() []string {
	if errors.Is(e.Cause, syscall.EACCES) {
		return []string{"the socket's directory is not open to you; try again with sudo"}
	}
	return []string{"sudo systemctl status agent; to run anyway: sudo agent exec --direct -- … </dev/null 2>&1 | cat"}
}
