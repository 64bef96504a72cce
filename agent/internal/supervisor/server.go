package supervisor

import (
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// server is one supervisor at work.
type server struct {
	cfg     Config
	log     *slog.Logger
	place   *command.Place
	reaper  *command.Reaper
	store   *store
	started time.Time
	quit    context.CancelCauseFunc // ends Serve

	work sync.WaitGroup // one for each live run, until all of it is gone
	over chan struct{}  // closed once there are no runs and will be none: event streams end

	starts starts
	leases leases

	mu       sync.Mutex
	live     map[string]*live
	crowd    crowd
	shown    map[string]*live  // those with a terminal, until their last output is delivered or saved
	locks    map[string]string // a name, to the run that holds it
	agents   int               // open event streams
	retiring bool              // end with the last run
	closing  bool              // no new runs
	changed  chan struct{}
}

var errShutdown = errors.New("asked to shut down")

// endAll refuses new runs and ends those that there are, all at once. It returns when they are gone.
func (s *server) endAll(by string, grace time.Duration) {
	s.mu.Lock()
	s.closing = true
	for _, l := range s.live {
		l.stop(by, cmp.Or(grace, min(l.grace, shutdownGrace)))
	}
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() { // ends with the runs
		s.work.Wait()
		close(gone)
	}()
	for {
		if s.cfg.Ending != nil {
			s.cfg.Ending(stopStep)
		}
		select {
		case <-gone:
			return
		case <-time.After(stopStep / 3):
		}
	}
}

type idleness int

const (
	busy idleness = iota
	idle
	retire
)

// idle says whether there are runs, whether IdleExit counts, and what to wait for. After retire no run is
// started: it would be lost.
func (s *server) idle() (now idleness, alone bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.live) > 0:
	case s.retiring:
		now, s.closing = retire, true
	default:
		now, alone = idle, s.agents == 0 && s.cfg.IdleExit > 0
	}
	return now, alone, s.changed
}

// changedLocked wakes those who wait for a change of runs, agents or events.
func (s *server) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// announce wakes those who wait for events. It reports whether the server is ending all runs.
func (s *server) announce() (closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changedLocked()
	return s.closing
}

func (s *server) liveRuns(as func(*live) runs.Run) []runs.Run {
	s.mu.Lock()
	all := make([]*live, 0, len(s.live))
	for _, l := range s.live {
		all = append(all, l)
	}
	s.mu.Unlock()
	list := make([]runs.Run, 0, len(all))
	for _, l := range all {
		if run := as(l); run.State != runs.StateStarting {
			list = append(list, run)
		}
	}
	return list
}

func (s *server) agentCame(n int) {
	s.mu.Lock()
	s.agents += n
	s.changedLocked()
	s.mu.Unlock()
}

// forget removes a run that did not start, or of which no process is left.
func (s *server) forget(l *live) {
	s.mu.Lock()
	delete(s.live, l.id)
	s.crowd.leave(l.member)
	l.lease.drop()
	if s.locks[l.lock] == l.id {
		delete(s.locks, l.lock)
	}
	s.changedLocked()
	s.mu.Unlock()
	close(l.gone)
}

// shownTerminal returns a run's terminal, also after the command has exited, until its output is delivered or saved.
func (s *server) shownTerminal(id string) (*live, *terminal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.shown[id]
	if l == nil {
		return nil, nil
	}
	return l, l.io.(*terminal)
}

func (s *server) show(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown[l.id] = l
}

func (s *server) hide(l *live) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shown, l.id)
}
