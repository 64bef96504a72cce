package runs

import (
	"fmt"
	"time"
)

// Good is how Describe says that a run went well.
const Good = "exit 0"

// Describe says how a run stands in a few words.
func Describe(r Run) string {
	switch {
	case r.Live():
		return "running"
	case r.State == StateLost:
		return "lost"
	case r.OOM:
		return fmt.Sprintf("killed by the kernel for memory at %d MB", r.PeakMemory>>20) // 2^20 bytes, as in --memory
	case r.TimedOut:
		return "ended by its time limit"
	case r.Replaced():
		return "replaced by the next run"
	case r.Interrupted() && r.StoppedBy == StoppedLease:
		return "interrupted: its lease was not renewed"
	case r.Interrupted():
		return "interrupted: " + r.StoppedBy
	case r.StoppedBy != "":
		return "ended by " + r.StoppedBy
	case r.Signal != 0:
		return fmt.Sprintf("ended by signal %d", r.Signal)
	}
	return fmt.Sprintf("exit %d", r.ExitCode)
}

// Verdict is one line for a person when a run did not simply end by itself; empty otherwise.
func Verdict(run Run) string {
	switch {
	case run.State == StateLost:
		return "lost: the supervisor died while it ran, so nobody saw how it ended"
	case run.OOM:
		return Describe(run)
	case run.TimedOut:
		return fmt.Sprintf("ended at its time limit, after %s", run.Took().Round(100*time.Millisecond))
	case run.StoppedBy == "idle":
		return "ended: nobody typed and nothing was printed for too long"
	case run.StoppedBy == StoppedLease:
		return "ended: the agent did not renew its lease, so another instance may run it"
	case run.StoppedBy == StoppedShutdown:
		return "ended: this machine, or the service that runs it, is shutting down"
	case run.StoppedBy != "":
		return Describe(run)
	}
	return ""
}
