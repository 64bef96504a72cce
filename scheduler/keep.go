package scheduler

import (
	"context"
	"maps"
	"time"
)

// keep marks what is to be saved about a job.
func (s *Scheduler) keep(e *entry) {
	if _, unseen := s.kept[e.job.Name]; unseen || s.cfg.Save == nil { // what is kept of it stays true
		return
	}
	settled := e.settled
	if e.act != nil {
		for _, r := range e.act.running {
			settled = min(settled, r.owed)
		}
	}
	k := SavedJob{ScheduleKey: e.job.scheduleKey(), Last: time.Unix(settled, 0).UTC()}
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
func (s *Scheduler) saveLoop(ctx context.Context) {
	retry := time.NewTicker(time.Minute)
	defer retry.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.save:
		case <-retry.C:
		}
		s.saveNow()
		select {
		case <-ctx.Done():
		case <-time.After(saveEvery):
		}
	}
	s.saveNow()
}

// saveNow hands what changed to Save. That it refuses is told once until it is well again.
func (s *Scheduler) saveNow() {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]SavedJob{}
	s.mu.Unlock()
	if len(dirty) == 0 {
		return
	}
	err := s.cfg.Save(dirty)
	if err == nil {
		s.saveFails = false
		return
	}
	s.mu.Lock()
	maps.Copy(dirty, s.dirty)
	s.dirty = dirty
	if !s.saveFails {
		s.tell(Event{Kind: SaveFailed, Err: err, Text: "what has run cannot be saved, a restart may run it again"})
	}
	s.saveFails = true
	s.unlock()
}
