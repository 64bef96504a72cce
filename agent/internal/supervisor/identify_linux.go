package supervisor

import "beanstalk-agent/agent/internal/command"

// startTime tells a process from a later one with the same number.
func startTime(pid int) uint64 { return command.StartTime(pid) }

// endLeftovers ends processes of a lost run where no control group did.
func (s *store) endLeftovers(rec record) {
	if rec.Run.PID <= 1 || rec.Begun == 0 || rec.Boot == "" || rec.Boot != s.boot {
		return
	}
	if err := command.EndSession(rec.Run.PID, rec.Begun); err != nil {
		s.log.Error("cannot end what a lost run left", "run", rec.Run.ID, "err", err)
	}
}
