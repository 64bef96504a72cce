package supervisor

import (
	"beanstalk-agent/agent/internal/command"
)

// identify tells a process from a later one with the same number.
func identify(pid int) (start uint64, boot string) {
	return command.StartTime(pid), bootID()
}

// endLeftovers ends processes of a lost run where no control group did.
func endLeftovers(rec record) {
	if rec.Run.PID > 1 && rec.Boot != "" && rec.Boot == bootID() && rec.Begun != 0 {
		command.EndSession(rec.Run.PID, rec.Begun)
	}
}
