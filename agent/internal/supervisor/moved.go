package supervisor

import "beanstalk-agent/agent/internal/runs"

// These moved to package runs: import that. This file goes once nobody uses it.
type (
	Run      = runs.Run
	Request  = runs.Request
	Event    = runs.Event
	Filter   = runs.Filter
	Caller   = runs.Caller
	Handover = runs.Handover
	Client   = runs.Client
	Refused  = runs.Refused
)

const (
	IOPipes    = runs.IOPipes
	IOTerminal = runs.IOTerminal
	IOSpool    = runs.IOSpool

	StateExited  = runs.StateExited
	StateRunning = runs.StateRunning
	StateLost    = runs.StateLost

	EventStarted = runs.EventStarted
	EventEnded   = runs.EventEnded
)

var (
	ErrExists  = runs.ErrExists
	ErrUnknown = runs.ErrUnknown

	OpenOutput = runs.OpenOutput
)
