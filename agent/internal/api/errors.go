package api

import (
	"fmt"
	"net/http"
	"os"
	"os/user"
	"strconv"

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

// HintNotAllowed says how somebody who is refused comes in.
const HintNotAllowed = "root can add it under exec.allow in /etc/agent/agent.yaml\nor try again with sudo"

// notAllowed is the error of somebody whom the kernel lets not connect to socket.
func notAllowed(socket string) error {
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return &Error{Status: http.StatusForbidden, Exit: 125, Hint: HintNotAllowed,
		Message: fmt.Sprintf("%s is not allowed here: %s is open to root and to exec.allow", name, socket)}
}

// Hints says how to look at the agent and how to do without it.
func (e *Unreachable) Hints() []string {
	return []string{"sudo systemctl status agent; to run anyway: sudo agent exec --direct -- …"}
}
