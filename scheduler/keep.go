package scheduler

import (
	"context"
	"maps"
	"time"
)

// markDirty queues the job's state for Save.
func (s *Scheduler) markDirty(e *entry) {
	if _, unseen := s.saved[e.job.Name]; unseen || s.cfg.Save == nil { // its saved state stays valid
		return
	}
	done := e.doneUntil
	if e.act != nil {
		for _, r := range e.act.running {
			done = min(done, r.owedFrom)
		}
	}
	k := SavedJob{ScheduleKey: e.job.scheduleKey(), Last: time.Unix(done, 0).UTC()}
	if e.paused != 0 {
		k.Paused = time.Unix(e.paused, 0).UTC()
	}
	s.dirty[e.job.Name] = k
}

// saveEvery is the least time between two calls of Save, which writes a whole table. A slot
// that the last second's loss makes due again goes to the Runner, which knows its runs.
const saveEvery = time.Second

// saveLoop saves changes until ctx is done, and then a last time. It repeats a failed save within a minute.
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

// saveNow passes changes to Save. It reports the first of several errors in a row.
func (s *Scheduler) saveNow() error {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = map[string]SavedJob{}
	s.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	err := s.cfg.Save(dirty)
	if err == nil {
		s.saveFails = false
		return nil
	}
	s.mu.Lock()
	maps.Copy(dirty, s.dirty)
	s.dirty = dirty
	if !s.saveFails {
		s.report(Event{Kind: SaveFailed, Err: err, Text: "what has run cannot be saved, a restart may run it again"})
	}
	s.saveFails = true
	s.unlock()
	return err
}
