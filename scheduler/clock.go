package scheduler

import (
	"fmt"
	"time"
)

// How far the clock may go back before what it shows is believed. Below that a slot that
// has run is not run again, the job waits until the clock has caught up: three hours, as
// cron does it. A job that follows elapsed time would be silent for too long, so it gets
// five minutes.
const (
	stepBack        = 3 * time.Hour
	stepBackElapsed = 5 * time.Minute
	// stepLeast is the least that counts as a step; less is a clock being disciplined.
	stepLeast = time.Second
)

// ahead reports whether slots settled up to t belong to a clock that was wrong.
func ahead(sched Schedule, t, now time.Time) bool {
	if z, ok := sched.(*zoned); ok && !z.elapsed {
		return t.Sub(now) > stepBack
	}
	return t.Sub(now) > stepBackElapsed
}

// look reads the wall clock, and notices when it was set: between two looks it must have
// gone on by as much as the monotonic clock. A suspended machine shows as a step forward,
// since the monotonic clock stands still meanwhile.
func (s *Scheduler) look() time.Time {
	wall, mono := s.cfg.Now().Round(0), time.Now()
	if !s.mono.IsZero() {
		if step := wall.Sub(s.wall) - mono.Sub(s.mono); step.Abs() >= stepLeast {
			s.stepped(step, wall)
		}
	}
	s.wall, s.mono = wall, mono
	return wall
}

// stepped puts right what the wall clock's step has made wrong.
func (s *Scheduler) stepped(step time.Duration, now time.Time) {
	text := fmt.Sprintf("the clock went forward by %s, or the machine was suspended", step.Round(time.Second))
	if step < 0 {
		text = fmt.Sprintf("the clock went back by %s: jobs wait until it has caught up, unless that is too long", (-step).Round(time.Second))
	}
	s.tell(Event{Kind: ClockStep, Text: text})
	if step > 0 {
		s.late = text
	}
	for _, e := range s.order {
		if ahead(e.job.Schedule, time.Unix(e.settled, 0), now) {
			s.beginAt(e, now)
		}
		if e.act != nil && e.act.retry != nil {
			e.act.retryAt = e.act.retryAt.Add(step) // a backoff is a length of time
		}
		if e.place >= 0 {
			s.arm(e)
		}
	}
}
