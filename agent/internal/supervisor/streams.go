package supervisor

import (
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// streams is a run's standard streams: piped, terminal or spool.
type streams interface {
	files() [3]int         // for the command
	begun(owner)           // the command runs
	failed()               // it does not: close everything, without an answer
	finish(e session.Exit) // its end is recorded: deliver the rest of the output, then the exit, and close everything
	account(run *runs.Run) // fill in what is known of the output
}

// owner is the run, as its streams see it.
type owner interface {
	name() string
	signal(syscall.Signal) error
	stop(by string, grace time.Duration)
	vanished()
	saveScreen(text []byte)
}
