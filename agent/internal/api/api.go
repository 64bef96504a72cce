// Package api is what goes over the agent's socket: the types of both ends, and the client.
//
// Contract: plain HTTP over one unix socket. The client ignores fields that it does not know, the server refuses
// them: an older server must not quietly do half of what a newer client asked. The client sends nothing before the
// kernel has said that root or this user listens.
package api

import (
	"fmt"
	"strings"
	"time"
)

// State says how a line of the status stands.
type State string

const (
	Good State = "ok"
	Note State = "note" // worth knowing, nothing to do
	Warn State = "warn" // works, but less than it could
	Bad  State = "bad"  // does not work
)

// Line is one line of the status screen: what, how it stands, what to do.
type Line struct {
	What  string         `json:"what"` // agent, application, environment, cron, metrics, health, runs, …
	State State          `json:"state"`
	Text  string         `json:"text"`
	Since time.Time      `json:"since,omitzero"`
	Facts map[string]any `json:"facts,omitempty"` // the numbers of Text, for programs
	Hint  string         `json:"hint,omitempty"`
}

// NewLine returns a Line with a formatted text. Several faults, which are a line each, become one.
func NewLine(what string, state State, hint, format string, a ...any) Line {
	text := strings.ReplaceAll(fmt.Sprintf(format, a...), "\n", "; ")
	return Line{What: what, State: state, Text: text, Hint: hint}
}

// Count is a number of things: 1 job, 2 jobs.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Status is the answer to `agent status`.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"`
	Lines   []Line    `json:"lines"`
}

// Caller is who makes a request, as the kernel knows it.
type Caller struct {
	UID   uint32 `json:"uid"`
	PID   int    `json:"pid"`
	Login string `json:"login"` // the name of UID, or its number
	Owner bool   `json:"-"`     // root or the agent's own user

	// Session is the account of the login that the caller came with, where it is another: after sudo, UID is
	// root's. The kernel keeps it over sudo and su (pam_loginuid(8)). It is for the audit: it permits nothing.
	Session string `json:"-"`
}
