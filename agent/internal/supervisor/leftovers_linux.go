package supervisor

import "beanstalk-agent/agent/internal/command"

// endLeftovers ends the processes of a run whose supervisor died, where no control group did.
func endLeftovers(rec record, boot string) error {
	if rec.Run.PID <= 1 || rec.Begun == 0 || rec.Boot == "" || rec.Boot != boot {
		return nil
	}
	return command.EndSession(rec.Run.PID, rec.Begun)
}
