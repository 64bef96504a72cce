package drain

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// departing plays a drained instance: at gives what there is to see some time after the drain began.
func departing(t *testing.T, w Waiter, limit time.Duration, at func(since time.Duration, d *Departure) error) (said []string, took time.Duration, err error) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w.Say = func(s string) { said = append(said, s) }
		w.Look = func(context.Context) (Departure, error) {
			d := Departure{Drains: []Reason{{By: Operator, Since: began}}}
			err := at(time.Since(began), &d)
			return d, err
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err = w.Wait(ctx)
		took = time.Since(began)
	})
	return said, took, err
}

// TestWaitsForTheLoadBalancerThenForWork: each with a line of its own, and a session of a person is
// named only.
func TestWaitsForTheLoadBalancerThenForWork(t *testing.T) {
	said, took, err := departing(t, Waiter{}, time.Hour, func(since time.Duration, d *Departure) error {
		if since > 10*time.Second {
			d.Drains[0].Refused = 1
		}
		if since < 100*time.Second {
			d.Requests = 1 + int(since/time.Second)%3 // users come until the load balancer has noticed
		}
		if since < 120*time.Second {
			d.Runs = []string{"cron nightly (abc)"}
		}
		d.Terminals = []string{"exec bash (def)"}
		return nil
	})
	want := []string{"a load balancer to ask", "count 5 refusals, 15s apart: until", "requests that the application serves: ", "sessions go on: exec bash (def)"}
	if err != nil || took != 120*time.Second || len(said) != len(want) {
		t.Fatalf("%v after %s; said %q", err, took, said)
	}
	for i := range want {
		if !strings.Contains(said[i], want[i]) {
			t.Errorf("line %d is %q, want %q in it", i, said[i], want[i])
		}
	}
}

// TestIdleInstanceWaitsForTheLoadBalancerAlone: as long as it may take to notice, not a second more.
func TestIdleInstanceWaitsForTheLoadBalancerAlone(t *testing.T) {
	told := func(_ time.Duration, d *Departure) error { d.Drains[0].Refused, d.Requests = 1, -1; return nil }
	for want, w := range map[time.Duration]Waiter{75 * time.Second: {}, 10 * time.Second: {Interval: 5 * time.Second, Threshold: 2}} {
		if _, took, err := departing(t, w, time.Hour, told); err != nil || took != want {
			t.Errorf("%v after %s, want %s", err, took, want)
		}
	}
}

// TestOldDrainWithAYoungCount: an agent that restarted has told nobody yet.
func TestOldDrainWithAYoungCount(t *testing.T) {
	_, took, err := departing(t, Waiter{}, time.Hour, func(since time.Duration, d *Departure) error {
		d.Drains[0].Since = d.Drains[0].Since.Add(-time.Hour)
		if since > 10*time.Second {
			d.Drains[0].Refused = 1
		}
		return nil
	})
	if err != nil || took != 11*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

func TestNobodyAsks(t *testing.T) {
	for want, w := range map[time.Duration]Waiter{36 * time.Second: {}, 61 * time.Second: {Interval: 30 * time.Second}} {
		_, took, err := departing(t, w, time.Hour, func(time.Duration, *Departure) error { return nil })
		if !errors.Is(err, ErrNobodyAsks) || took != want {
			t.Errorf("%v after %s, want %s", err, took, want)
		}
	}
}

// TestRestartOfTheAgentIsWaitedFor, an agent that was never there is not; and an undrain ends it.
func TestRestartOfTheAgentIsWaitedFor(t *testing.T) {
	away := errors.New("cannot reach the agent")
	said, _, err := departing(t, Waiter{}, time.Hour, func(since time.Duration, d *Departure) error {
		d.Drains[0].Refused = 1
		switch {
		case since > 20*time.Second:
			d.Drains = nil
		case since > 10*time.Second:
			return away
		}
		return nil
	})
	if !errors.Is(err, ErrUndrained) || !slices.Contains(said, "waiting for the agent to answer again") {
		t.Errorf("%v; said %q", err, said)
	}
	if _, took, err := departing(t, Waiter{}, time.Hour, func(time.Duration, *Departure) error { return away }); err != away || took != 0 {
		t.Errorf("%v after %s", err, took)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	_, took, err := departing(t, Waiter{}, 5*time.Minute, func(_ time.Duration, d *Departure) error {
		d.Drains[0].Refused, d.Requests = 9, 2
		return nil
	})
	if u, ok := errors.AsType[*Unfinished](err); !ok || u.Waited != "requests that the application serves: 2" || took != 5*time.Minute {
		t.Errorf("%v after %s", err, took)
	}
}

// TestShutdownWaitsForALoadBalancerOnly, and only for one that has asked in the last minute.
func TestShutdownWaitsForALoadBalancerOnly(t *testing.T) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of each bubble
	for name, tt := range map[string]struct {
		asked time.Time
		want  time.Duration
	}{
		"never":              {time.Time{}, 0},
		"hours ago":          {start.Add(-3 * time.Hour), 0},
		"it stops":           {start.Add(-40 * time.Second), 21 * time.Second},
		"as long as it does": {start.Add(time.Hour), 75 * time.Second},
	} {
		_, took, err := departing(t, Waiter{Shutdown: true}, time.Hour, func(_ time.Duration, d *Departure) error {
			d.Drains[0].Refused, d.Balancer, d.Runs = 1, tt.asked, []string{"cron endless (abc)"}
			return nil
		})
		if err != nil || took != tt.want {
			t.Errorf("%s: %v after %s, want %s", name, err, took, tt.want)
		}
	}
}
