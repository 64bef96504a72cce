package supervisor

import (
	"fmt"
	"time"
)

// verdict is one line for a person when a run did not simply end by itself; empty otherwise.
func verdict(run Run) string {
	switch {
	case run.State == StateLost:
		return "lost: the supervisor died while it ran, so nobody saw how it ended"
	case run.OOM:
		return "killed by the kernel for memory at " + megabytes(run.PeakMemory)
	case run.TimedOut:
		return fmt.Sprintf("ended at its time limit, after %s", run.Took().Round(100*time.Millisecond))
	case run.StoppedBy == "idle":
		return "ended: nobody typed and nothing was printed for too long"
	case run.StoppedBy == "shutdown":
		return "ended: the supervisor was told to stop"
	case run.StoppedBy != "":
		return "ended by " + run.StoppedBy
	}
	return ""
}

// megabytes are those of --memory, 2^20 bytes, so that a run killed at 512M is said to be.
func megabytes(n uint64) string { return fmt.Sprintf("%d MB", n>>20) }
