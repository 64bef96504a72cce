package supervisor

import (
	"os"

	"beanstalk-agent/agent/internal/command"
)

// endLeftovers ends processes of a lost run where no control group did.
func (s *store) endLeftovers(rec record) {
	if rec.Run.PID <= 1 || rec.Begun == 0 || rec.Boot == "" || rec.Boot != s.boot {
		return
	}
	if err := command.EndSession(rec.Run.PID, rec.Begun); err != nil {
		s.log.Error("cannot end what a lost run left", "run", rec.Run.ID, "err", err)
	}
}

// cleanAfter ends what a run left behind whose end was recorded, but whose supervisor died before it could.
// Its meta file is still there then: see cleaned.
func (s *store) cleanAfter(id string) {
	if rec, err := readRecord(s.path(id, "meta.json")); err == nil {
		s.endLeftovers(rec)
		s.cleaned(id)
	}
}

// cleaned notes that nothing is left of a run that has ended. Its status is all that is needed of it.
func (s *store) cleaned(id string) { os.Remove(s.path(id, "meta.json")) }
