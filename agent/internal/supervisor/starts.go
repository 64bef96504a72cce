package supervisor

import (
	"fmt"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/command"
)

// uselessAfter is how long starts must have failed without one that succeeded. A restart ends the commands that run, so
// it must be sure that it helps: a process table that was full for a minute, it does not.
const uselessAfter = 5 * time.Minute

// starts remembers whether this process can start commands. The zero value is ready.
type starts struct {
	mu          sync.Mutex
	first, last time.Time // failures of ours since the last good start
}

// note records a start. It is good when the command's user had a part in it: a program that is not there, a process
// that its user stopped, are no faults of this process.
func (s *starts) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !command.Ours(err) {
		s.first, s.last = time.Time{}, time.Time{}
		return
	}
	s.last = time.Now()
	if s.first.IsZero() {
		s.first = s.last
	}
}

func (s *starts) useless() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if took := s.last.Sub(s.first); took >= uselessAfter {
		return fmt.Errorf("every start since %s has failed", s.first.UTC().Format("15:04:05 UTC"))
	}
	return nil
}
