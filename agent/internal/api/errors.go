package api

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"beanstalk-agent/agent/internal/session"
)

// Error is a failure with what to do about it: the body of a refused or failed request, and what a verb ends with.
// The supervisor writes it, too, on a connection that was handed over.
type Error = session.Refusal

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
