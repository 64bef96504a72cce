package health

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestJudge plays one result a second: + success, - failure. What a load balancer is told is
// written the same way, s for starting.
func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		failures, successes int
		grace               time.Duration
		results, told       string
	}{
		"every result counts":               {1, 1, 0, "+-+--+", "+-+--+"},
		"first failure is not assumed away": {3, 3, 0, "-+++", "---+"},
		"first success is believed":         {3, 3, 0, "+--+---", "+++++" + "+-"},
		"a success resets the run":          {2, 1, 0, "+-+-+--", "++++++-"},
		"back only after enough":            {1, 2, 0, "+-+-++", "+----+"},
		"starting for a while":              {1, 1, 3 * time.Second, "---+-", "sss+-"},
		"grace ends":                        {1, 1, 2 * time.Second, "----", "ss--"},
		"no grace once it has answered":     {1, 1, time.Hour, "+-", "+-"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			j := judge{failures: tt.failures, successes: tt.successes, state: Unknown, graceEnds: start.Add(tt.grace)}
			var told strings.Builder
			for i, c := range tt.results {
				r := Result{At: start.Add(time.Duration(i) * time.Second), Healthy: c == '+', Reason: "refused"}
				if r.Healthy {
					r.Status = 204
				}
				j.see(r)
				v := j.verdict(r)
				if v.Healthy != (v.Status < 300) {
					t.Errorf("second %d: healthy %v with status %d", i, v.Healthy, v.Status)
				}
				if !r.Healthy && !strings.Contains(v.Reason, "refused") {
					t.Errorf("second %d: the reason is hidden: %q", i, v.Reason)
				}
				told.WriteString(map[State]string{Healthy: "+", Unhealthy: "-", Starting: "s"}[v.State])
			}
			if told.String() != tt.told {
				t.Errorf("results %s: told %s, want %s", tt.results, &told, tt.told)
			}
		})
	}
}

// TestNoFailurePassesForSuccess: what the application says comes through, unless a load balancer
// would take it the wrong way.
func TestNoFailurePassesForSuccess(t *testing.T) {
	for _, tt := range []struct {
		status  int
		healthy bool
		want    int
	}{
		{200, true, 200}, {204, true, 200}, {401, true, 200}, {302, true, 200},
		{301, false, 301}, {400, false, 400}, {500, false, 500}, {204, false, 503}, {0, false, 503}, {99, false, 503}, {700, false, 503},
	} {
		t.Run(fmt.Sprint(tt.status, tt.healthy), func(t *testing.T) {
			j := judge{failures: 1, successes: 1, state: Unknown}
			r := Result{Status: tt.status, Healthy: tt.healthy, At: time.Now()}
			j.see(r)
			if got := j.verdict(r).Status; got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
