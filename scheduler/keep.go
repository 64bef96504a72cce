package scheduler

import (
	"context"
	"maps"
	"time"
)

// keep marks what is to be saved about a job.
func (s *Scheduler) keep(e *entry) {
	if s.cfg.Save == nil {
		return
	}
	settled := e.settled
	if e.act != nil {
		for _, r := range e.act.running {
			settled = min(settled, r.owed)
		}
	}
	k := Kept{Spec: e.job.spec(), Last: time.Unix(settled, 0).UTC()}
	if e.paused != 0 {
		k.Paused = time.Unix(e.paused, 0).UTC()
	}
	s.dirty[e.job.Name] = k
}

// saveEvery is how often Save is called at most: it writes a whole table, and a thousand
// jobs due together begin one after the other. What is lost with the last second is asked
// of the Runner again, which knows what it has run.
const saveEvery = time.Second

// saveLoop hands what changed to Save, and again within a minute what it refused, until
// ctx is done, then a last time.
func (s *Scheduler) saveLoop(ctx context.Context, failing bool) {
	retry := time.NewTicker(time.Minute)
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.save:
		case <-retry.C:
		}
		failing = s.saveNow(failing)
		select {
		case <-ctx.Done():
		case <-time.After(saveEvery):
		}
	}
	s.saveNow(failing)
}

// saveNow reports whether Save refused. That is told once until it is well again.
func (s *Scheduler) saveNow(failing bool) bool {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]Kept{}
	s.mu.Unlock()
	if len(dirty) == 0 {
		return failing
	}
	err := s.cfg.Save(dirty)
	if err == nil {
		return false
	}
	s.mu.Lock()
	maps.Copy(dirty, s.dirty)
	s.dirty = dirty
	if !failing {
		s.tell(Event{Kind: SaveFailed, Err: err, Text: "what has run cannot be saved, a restart may run it again"})
	}
	s.unlock()
	return true
}
