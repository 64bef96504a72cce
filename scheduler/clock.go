package scheduler

import (
	"fmt"
	"time"
)

// A clock that goes back by less than this does not repeat slots: the job waits until the clock has caught up. Three
// hours, as in cron. A job that follows elapsed time would be silent for too long, so it has five minutes.
const (
	stepBack        = 3 * time.Hour
	stepBackElapsed = 5 * time.Minute
	// stepLeast is the least that counts as a step; less is a clock being disciplined.
	stepLeast = time.Second
)

// ahead reports whether slots done up to t belong to a clock that was wrong.
func ahead(sched Schedule, t, now time.Time) bool {
	if z, ok := sched.(*zoned); ok && !z.elapsed {
		return t.Sub(now) > stepBack
	}
	return t.Sub(now) > stepBackElapsed
}

// now reads the wall clock, and notices when it was set: since the last call it must have advanced by as much as the
// monotonic clock. A suspended machine shows as a step forward, since its monotonic clock stands still.
func (s *Scheduler) now() time.Time {
	wall, mono := s.cfg.Now().Round(0), time.Now()
	if !s.mono.IsZero() {
		if step := wall.Sub(s.wall) - mono.Sub(s.mono); step.Abs() >= stepLeast {
			s.clockStepped(step, wall)
		}
	}
	s.wall, s.mono = wall, mono
	return wall
}

// clockStepped adapts jobs to a step of the wall clock.
func (s *Scheduler) clockStepped(step time.Duration, now time.Time) {
	text := fmt.Sprintf("the clock went forward by %s, or the machine was suspended", step.Round(time.Second))
	if step < 0 {
		text = fmt.Sprintf("the clock went back by %s: jobs wait until it has caught up, unless that is too long",
			(-step).Round(time.Second))
	}
	s.report(Event{Kind: ClockStep, Text: text})
	if step > 0 {
		s.lateReason = text
	}
	for _, e := range s.order {
		if ahead(e.job.Schedule, time.Unix(e.doneUntil, 0), now) {
			s.oweFrom(e, now)
		}
		if e.act != nil && e.act.retry != nil {
			e.act.retryAt = e.act.retryAt.Add(step) // a backoff is a length of time
		}
		if e.heapIndex >= 0 {
			s.arm(e)
		}
	}
}
