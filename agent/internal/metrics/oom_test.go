package metrics

import (
	"context"
	"errors"
	"testing"
)

// The process is gone by then: its control group alone says which run, or which service, it was.
func TestAKilledProcessIsNamedByItsControlGroup(t *testing.T) {
	m := Metrics{runName: func(_ context.Context, id string) (string, error) {
		return map[string]string{"r1": "job nightly", "r2": "exec "}[id], map[string]error{"r3": errors.New("no such run")}[id]
	}}
	for cgroup, want := range map[string]string{
		"":                                    "",
		"system.slice/web.service":            "web.service",
		"system.slice/agent-runs.service/r1":  "job nightly, run r1",
		"agent-runs.service/r1/below/it":      "job nightly, run r1",
		"system.slice/agent-runs.service/r2/": "exec, run r2",
		"system.slice/agent-runs.service/r3":  "run r3",
		// A user's own systemd makes groups of any name.
		"user.slice/user-1000.slice/user@1000.service/agent-runs.service/r1":              "user.slice/user-1000.slice/user@1000.service/agent-runs.service/r1",
		"user.slice/user-1000.slice/user@1000.service/system.slice/agent-runs.service/r1": "user.slice/user-1000.slice/user@1000.service/system.slice/agent-runs.service/r1",
		"user.slice/user-1000.slice/user@1000.service/web.service":                        "user.slice/user-1000.slice/user@1000.service/web.service",
		"system.slice/web.service/agent-runs.service/r1":                                  "web.service/agent-runs.service/r1",
	} {
		if got := m.killedRun(1, cgroup); got != want {
			t.Errorf("%q: got %q, want %q", cgroup, got, want)
		}
	}
}
