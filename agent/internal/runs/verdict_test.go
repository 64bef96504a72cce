package runs

import "testing"

// Also of a supervisor that knows no state for it.
func TestInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		run  Run
		how  string
		want bool
	}{
		"shutdown":                    {Run{State: StateInterrupted, StoppedBy: StoppedShutdown, ExitCode: 143, Signal: 15}, "interrupted: shutdown", true},
		"killed after its grace":      {Run{State: StateInterrupted, StoppedBy: StoppedShutdown, ExitCode: 137, Signal: 9}, "interrupted: shutdown", true},
		"it caught TERM":              {Run{State: StateExited, StoppedBy: StoppedShutdown, ExitCode: 3}, "interrupted: shutdown", true},
		"lease":                       {Run{State: StateExited, StoppedBy: StoppedLease, ExitCode: 143}, "interrupted: its lease was not renewed", true},
		"finished within its grace":   {Run{State: StateExited, StoppedBy: StoppedShutdown}, "ended by shutdown", false},
		"the next run":                {Run{State: StateExited, StoppedBy: StoppedReplaced, ExitCode: 143}, "replaced by the next run", false},
		"a person":                    {Run{State: StateExited, StoppedBy: "stop", ExitCode: 143}, "ended by stop", false},
		"its limit":                   {Run{State: StateExited, StoppedBy: "timeout", TimedOut: true, ExitCode: 124}, "ended by its time limit", false},
		"by itself":                   {Run{State: StateExited, ExitCode: 1}, "exit 1", false},
		"being ended":                 {Run{State: StateRunning, StoppedBy: StoppedShutdown}, "running", false},
		"out of memory while stopped": {Run{State: StateExited, StoppedBy: StoppedShutdown, OOM: true, ExitCode: 137}, "killed by the kernel for memory at 0 MB", false},
	} {
		if how := Describe(c.run); how != c.how || c.run.Interrupted() != c.want {
			t.Errorf("%s: %q, interrupted %t", name, how, c.run.Interrupted())
		}
	}
}
