package supervisor

import (
	"sync"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// leases are until when runs may go on, by their ids. Nothing but a renewal lengthens one: the agent may be stopped,
// killed or hung. The zero value is ready.
type leases struct {
	mu sync.Mutex
	of map[string]*lease
}

// lease is that of a run, which may still wait for its lock.
type lease struct {
	all *leases
	id  string

	until runs.BootTime // guarded by all.mu, and so is:
	users int           // starts that wait, and the run
}

// hold notes the lease of a start, and returns nil where it asks for none. Whoever holds one drops it.
func (s *leases) hold(id string, length time.Duration, from runs.BootTime) *lease {
	if length == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of[id]
	if l == nil {
		l = &lease{all: s, id: id}
		if s.of == nil {
			s.of = make(map[string]*lease)
		}
		s.of[id] = l
	}
	l.users++
	l.until = max(l.until, leaseEnd(length, from))
	return l
}

// renew extends a lease and returns what is left of it: 0 or less when it has ended, and then it stays so.
func (s *leases) renew(id string, length time.Duration, from runs.BootTime) (left time.Duration, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.of[id]
	if l == nil {
		return 0, false
	}
	now := runs.BootNow()
	if l.until > now {
		l.until = max(l.until, leaseEnd(length, from))
	}
	return time.Duration(l.until - now), true
}

// drop forgets the lease of a start that was refused, or of a run that is gone. A nil lease is none.
func (l *lease) drop() {
	if l == nil {
		return
	}
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(l.all.of, l.id)
	}
}

// left is how long the run may go on unless the lease is renewed.
func (l *lease) left() time.Duration {
	l.all.mu.Lock()
	defer l.all.mu.Unlock()
	return time.Duration(l.until - runs.BootNow())
}

// lapsed refuses a start whose lease has ended, as while it waited for its lock.
func (l *lease) lapsed() *runs.Refused {
	if l == nil || l.left() > 0 {
		return nil
	}
	return &runs.Refused{Status: 409, Kind: runs.KindLapsed,
		Message: "the lease of run " + l.id + " ended before it could start: nothing was started"}
}

// leaseLook is how often a lease is looked at: Go's timers stand still while the machine hibernates, the clock of
// leases does not.
const leaseLook = 5 * time.Second

// ended returns when the lease has ended for so long, or reports that gone was closed before.
func (l *lease) ended(gone <-chan struct{}, ago time.Duration) bool {
	for left := l.left() + ago; left > 0; left = l.left() + ago {
		select {
		case <-gone:
			return false
		case <-time.After(min(left, leaseLook)):
		}
	}
	return true
}

// leaseEnd is when a lease ends. One that begins in the future, or does not say when, begins now.
func leaseEnd(length time.Duration, from runs.BootTime) runs.BootTime {
	now := runs.BootNow()
	if from == 0 {
		from = now
	}
	return min(from, now) + runs.BootTime(length)
}
