package notify

import "time"

// policy decides for one target which events about its jobs are told and when. It is pure: it is
// given the time. What it promises: someone who read every notice is never wrong about whether a
// job fails for longer than one cooldown, and is told of one job at most twice in a cooldown, and of each
// failure and recovery that follows one elsewhere.
type policy struct {
	cooldown time.Duration
	jobs     map[string]*jobNotices
}

type jobNotices struct {
	told     bool      // the reader believes that the job fails
	lastTold time.Time // of bad news
	held     int
	waiting  *Event // bad news held back although the reader believes that all is well
}

// see returns the notice to send now because of e, if any.
func (p *policy) see(e Event, now time.Time) (notice, bool) {
	j := p.jobs[e.Job]
	if j != nil && e.Before != "" { // told by another instance
		j.told, j.waiting = e.Before.bad(), nil
	}
	switch {
	case e.Kind.bad() && j == nil:
		j = &jobNotices{}
		p.jobs[e.Job] = j
		return j.tell(e, now), true
	case e.Kind.bad() && now.Sub(j.lastTold) >= p.cooldown:
		return j.tell(e, now), true
	case e.Kind.bad():
		j.held++
		if !j.told {
			j.waiting = &e
		}
		return notice{}, false
	case e.Kind != Recovered:
		return notice{Event: e}, true // only for those who asked for starts and successes
	case j == nil: // bad before the agent started, or elsewhere: the caller knows
		return notice{Event: e}, true
	}
	j.waiting = nil
	if !j.told {
		return notice{}, false
	}
	j.told = false
	n := notice{Event: e, held: j.held}
	j.held = 0
	return n, true
}

func (j *jobNotices) tell(e Event, now time.Time) notice {
	n := notice{Event: e, held: j.held}
	*j = jobNotices{told: true, lastTold: now}
	return n
}

// due returns what was held back and has to be told by now, and forgets jobs that are long well.
func (p *policy) due(now time.Time) []notice {
	var out []notice
	for name, j := range p.jobs {
		if now.Sub(j.lastTold) < p.cooldown {
			continue
		}
		if j.waiting != nil {
			j.held-- // it is told itself
			out = append(out, j.tell(*j.waiting, now))
		} else if !j.told {
			delete(p.jobs, name)
		}
	}
	return out
}

// next is when due has something to return; zero: not before another event.
func (p *policy) next() (at time.Time) {
	for _, j := range p.jobs {
		if t := j.lastTold.Add(p.cooldown); j.waiting != nil && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}
