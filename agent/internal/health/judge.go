package health

import (
	"fmt"
	"net/http"
	"time"
)

// State is what the results so far amount to.
type State string

const (
	Unknown   State = "unknown"   // nobody has asked yet, or nothing could be told
	Starting  State = "starting"  // never answered well, and still within Config.Grace
	Healthy   State = "healthy"   //
	Unhealthy State = "unhealthy" //
)

// judge turns results into a state. The first result decides by itself: a state is never assumed.
// Afterwards only enough results in a row change it. It is not safe for concurrent use.
type judge struct {
	failures, successes int
	graceEnds           time.Time

	state State
	since time.Time
	run   int // results in a row that contradict state
}

// see takes one result and reports whether the state changed.
func (j *judge) see(r Result) bool {
	next := Unhealthy
	switch {
	case r.Healthy:
		next = Healthy
	case j.state != Healthy && j.state != Unhealthy && r.At.Before(j.graceEnds):
		next = Starting
	}
	if next == j.state {
		j.run = 0
		return false
	}
	j.run++
	if j.run < j.needed() {
		return false
	}
	j.state, j.since, j.run = next, r.At, 0
	return true
}

// needed is how many results in a row change the present state.
func (j *judge) needed() int {
	switch j.state {
	case Healthy:
		return j.failures
	case Unhealthy:
		return j.successes
	}
	return 1
}

// verdict is what a load balancer is told after the result r. Healthy is 200, whatever the application's
// own word for it: load balancers take that for a success and, unless told otherwise, nothing else.
func (j *judge) verdict(r Result) Verdict {
	v := Verdict{Healthy: j.state == Healthy, State: j.state, Since: j.since, Reason: r.Reason, LatencyMS: r.LatencyMS, At: r.At}
	switch {
	case v.Healthy && r.Healthy:
		v.Status = http.StatusOK
	case v.Healthy:
		v.Status = http.StatusOK
		v.Reason = fmt.Sprintf("failure %d of %d in a row before this counts: %s", j.run, j.failures, r.Reason)
	case r.Healthy:
		v.Status = http.StatusServiceUnavailable
		v.Reason = fmt.Sprintf("success %d of %d in a row before this counts: %s", j.run, j.successes, r.Reason)
	default:
		v.Status = unhealthyStatus(r.Status)
		if j.state == Starting {
			v.Reason = "starting: " + r.Reason
		}
	}
	return v
}

// unhealthyStatus passes the application's status on, except one that a load balancer might take
// for a success, and 0, which stands for no answer.
func unhealthyStatus(status int) int {
	if 300 <= status && status <= 599 {
		return status
	}
	return http.StatusServiceUnavailable
}
