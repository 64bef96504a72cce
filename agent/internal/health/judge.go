package health

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Verdict is the answer for a load balancer, with its reason.
type Verdict struct {
	Healthy   bool      `json:"healthy"`
	Status    int       `json:"status"` // as answered: 200 to 599
	Reason    string    `json:"reason"` // one line that an operator can act on
	LatencyMS float64   `json:"latency_ms"`
	At        time.Time `json:"at"` // of the application's answer
	Host      string    `json:"host,omitempty"`
	Target    string    `json:"target,omitempty"` // without a query; empty: none was found
	State     State     `json:"state,omitempty"`
	Since     time.Time `json:"since,omitzero"` // of State
}

// Result is the result of one probe.
type Result struct {
	At        time.Time `json:"at"`
	Healthy   bool      `json:"healthy"`
	Unknown   bool      `json:"unknown,omitempty"` // it does not show whether the application is up
	Status    int       `json:"status"`            // the application's own; 0: no answer
	Reason    string    `json:"reason"`
	LatencyMS float64   `json:"latency_ms"`
	Host      string    `json:"host"`             // as sent
	Target    string    `json:"target,omitempty"` // as in Verdict
}

// State is the state of the application, from the results so far.
type State string

const (
	Unknown   State = "unknown"   // not probed yet, or without a usable result
	Starting  State = "starting"  // never healthy, and still within Config.Grace
	Healthy   State = "healthy"   //
	Unhealthy State = "unhealthy" //
)

// judge turns results into a state. The first result sets it: none is assumed. Later only enough
// results in a row change it. It is not safe for concurrent use.
type judge struct {
	failures, successes int
	graceEnds           time.Time

	state State
	since time.Time
	run   int // results in a row that differ from state
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

// needed is how many results in a row change the current state.
func (j *judge) needed() int {
	switch j.state {
	case Healthy:
		return j.failures
	case Unhealthy:
		return j.successes
	}
	return 1
}

// verdict is the answer for a load balancer after the result r. Healthy is always 200, the only success by
// default for load balancers, whatever the application's own status.
func (j *judge) verdict(r Result) Verdict {
	v := Verdict{Healthy: j.state == Healthy, State: j.state, Since: j.since,
		Reason: r.Reason, LatencyMS: r.LatencyMS, At: r.At}
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

// passThrough is the application's own answer, if it has a usable one.
func passThrough(r Result) Verdict {
	v := Verdict{Healthy: r.Healthy, State: Unhealthy, Status: r.Status,
		Reason: r.Reason, LatencyMS: r.LatencyMS, At: r.At}
	if r.Healthy {
		v.State = Healthy
	}
	if v.Status < 200 || v.Status > 599 || r.Unknown {
		v.Status = http.StatusServiceUnavailable
	}
	return v
}

// reasonForLog leaves out the Host, which may be a value of the application's environment. agent health
// shows it to users who may read that.
func (r Result) reasonForLog() string {
	if r.Host == "" {
		return r.Reason
	}
	return strings.ReplaceAll(r.Reason, r.Host, "…")
}

// unhealthyStatus returns the application's status, except one that a load balancer might take for a
// success, and 0, which means no answer.
func unhealthyStatus(status int) int {
	if 300 <= status && status <= 599 {
		return status
	}
	return http.StatusServiceUnavailable
}
