package notify

import "time"

// policy decides which events about a target's jobs become notices, and when. It is pure: the caller passes the time.
// Guarantees: the notices of a job never disagree with its state for longer than one cooldown; there are at most two
// about one job in a cooldown, beside each failure and recovery that follows one on another instance.
type policy struct {
	cooldown time.Duration
	jobs     map[string]*jobNotices
}

type jobNotices struct {
	failing    bool      // the last notice sent said that the job fails
	lastNotice time.Time // of a problem
	heldBack   int
	pending    *Event // a problem held back although the last notice said that all is well
}

// onEvent returns the notice to send now because of e, if any.
func (p *policy) onEvent(e Event, now time.Time) (notice, bool) {
	j := p.jobs[e.Job]
	if j != nil && e.Before != "" { // another instance sent a notice
		j.failing, j.pending = e.Before.problem(), nil
	}
	switch {
	case e.Kind.problem() && j == nil:
		if len(p.jobs) >= maxJobs {
			clear(p.jobs)
		}
		j = &jobNotices{}
		p.jobs[e.Job] = j
		return j.report(e, now), true
	case e.Kind.problem() && now.Sub(j.lastNotice) >= p.cooldown:
		return j.report(e, now), true
	case e.Kind.problem():
		j.heldBack++
		if !j.failing {
			j.pending = &e
		}
		return notice{}, false
	case e.Kind != Recovered:
		return notice{Event: e}, true // only for targets that want starts and successes
	case j == nil: // failed before the agent started, or on another instance: the caller knows
		return notice{Event: e}, true
	}
	j.pending = nil
	if !j.failing {
		return notice{}, false
	}
	j.failing = false
	n := notice{Event: e, heldBack: j.heldBack}
	j.heldBack = 0
	return n, true
}

func (j *jobNotices) report(e Event, now time.Time) notice {
	n := notice{Event: e, heldBack: j.heldBack}
	*j = jobNotices{failing: true, lastNotice: now}
	return n
}

// due returns notices whose cooldown is over, and forgets jobs that have been well for a cooldown.
func (p *policy) due(now time.Time) []notice {
	var out []notice
	for name, j := range p.jobs {
		if now.Sub(j.lastNotice) < p.cooldown {
			continue
		}
		if j.pending != nil {
			j.heldBack-- // the notice itself
			out = append(out, j.report(*j.pending, now))
		} else if !j.failing {
			delete(p.jobs, name)
		}
	}
	return out
}

// next is when due will return something; zero: not before another event.
func (p *policy) next() (at time.Time) {
	for _, j := range p.jobs {
		if t := j.lastNotice.Add(p.cooldown); j.pending != nil && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}
