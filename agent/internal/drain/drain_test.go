package drain

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// jobs is how long cron starts are held; 0: they are not.
type jobs struct{ limit atomic.Int64 }

func (j *jobs) hold(limit time.Duration) { j.limit.Store(int64(limit)) }
func (j *jobs) held() time.Duration      { return time.Duration(j.limit.Load()) }

func newDrain(t *testing.T, file string) (*Drain, *jobs) {
	t.Helper()
	j := &jobs{}
	return New(Config{
		Log: planted.Log(t), File: file, Hold: j.hold, Release: func() { j.hold(0) },
		Runs: func(_ context.Context, _ runs.Filter) ([]runs.Run, error) {
			return []runs.Run{{ID: "abc", Kind: "cron", Name: "nightly"}, {ID: "def", Kind: "exec", IO: runs.IOTerminal}}, nil
		},
		Connections: func(context.Context) int { return 3 },
	}), j
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestRefusesUntilEachReasonIsTakenBack(t *testing.T) {
	d, jobs := newDrain(t, "")
	if d.Refuse(true) {
		t.Error("refuses without a reason")
	}
	d.Drain(t.Context(), "maintenance", false)
	if !d.Refuse(true) || jobs.held() != 0 {
		t.Errorf("an operator's drain: refuses %v, jobs held for %s", d.Refuse(false), jobs.held())
	}
	d.start("spot", "terminates at 12:00")
	if err := d.Undrain(t.Context()); err == nil || !strings.Contains(err.Error(), "still draining, whatever operators wish: terminates at 12:00") {
		t.Errorf("undrain: %v", err)
	}
	if !d.Refuse(true) || !d.Refuse(false) { // which no load balancer hears
		t.Error("does not refuse although one reason stands")
	}
	dep, err := d.Departure(t.Context())
	if err != nil || len(dep.Drains) != 1 || dep.Drains[0].By != "spot" || dep.Drains[0].Refused != 1 || time.Since(dep.Balancer) > time.Minute ||
		dep.Requests != 3 || !slices.Equal(dep.Runs, []string{"cron nightly (abc)"}) || !slices.Equal(dep.Terminals, []string{"exec  (def)"}) {
		t.Errorf("%+v, %v", dep, err)
	}
}

// Only a reason that is no operator's holds jobs, and then neither a deployment's hold nor its release changes that.
func TestJobsAreHeldForGoodOnlyWhereTheInstanceIsLeaving(t *testing.T) {
	d, jobs := newDrain(t, "")
	d.Drain(t.Context(), "", false)
	if d.Hold(t.Context(), time.Minute); jobs.held() != time.Minute {
		t.Errorf("drained by an operator: held for %s", jobs.held())
	}
	if err := d.Release(t.Context()); err != nil || jobs.held() != 0 {
		t.Errorf("release: %v, held for %s", err, jobs.held())
	}
	d.Drain(t.Context(), "", true)
	d.Hold(t.Context(), time.Minute)
	if err := d.Release(t.Context()); err == nil || jobs.held() != HoldForTermination {
		t.Errorf("shutting down: release says %v, held for %s", err, jobs.held())
	}
	lines := d.Status(t.Context())
	if len(lines) != 2 || lines[0].Hint != "agent undrain" || lines[1].Hint != "" || !strings.HasSuffix(lines[1].Text, "this machine is shutting down") {
		t.Errorf("%+v", lines)
	}
	if err := d.Undrain(t.Context()); err == nil {
		t.Error("undrained while shutting down")
	}
}

func TestUndrainWithoutADrain(t *testing.T) {
	d, _ := newDrain(t, "")
	if err := d.Undrain(t.Context()); err == nil || err.Error() != "no operator has drained this instance" {
		t.Error(err)
	}
}

// TestDrainsOutliveTheAgent, until each is taken back.
func TestDrainsOutliveTheAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drain")
	first, _ := newDrain(t, file)
	first.Drain(t.Context(), "disk is being replaced", false)
	first.Refuse(true) // a count that goes with the agent: nothing counts while it is away
	first.start("spot", "EC2 takes it back")
	second, _ := newDrain(t, file)
	if r := second.Reasons(); len(r) != 2 || r[0].Reason != "disk is being replaced" || r[1].By != "spot" || r[0].Refused != 0 || !r[0].Since.Equal(first.Reasons()[0].Since) {
		t.Errorf("after a restart: %+v", r)
	}
	second.remove(Operator)
	third, _ := newDrain(t, file)
	if r := third.Reasons(); len(r) != 1 || r[0].By != "spot" {
		t.Errorf("after undrain and a restart: %+v", r)
	}
	second.remove("spot")
	if _, err := os.Stat(file); err == nil {
		t.Error("nginx would still refuse load balancers")
	}
	for _, damaged := range []string{"{torn", "[]", "{}", ""} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, _ := newDrain(t, file); len(d.Reasons()) != 1 || d.Undrain(t.Context()) != nil {
			t.Errorf("the damaged file %q counts as no drain of an operator's", damaged)
		}
	}
}

// Whoever makes the file before the agent does, in a sticky directory, drains nothing, and a hold is none.
func TestAStrangersDrainIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drain")
	if err := os.Symlink("/etc/passwd", file); err != nil {
		t.Fatal(err)
	}
	if d, _ := newDrain(t, file); len(d.Reasons()) != 0 {
		t.Errorf("got %+v", d.Reasons())
	}
	if _, err := os.Lstat(file); err == nil {
		t.Error("nginx would still refuse load balancers")
	}
}
