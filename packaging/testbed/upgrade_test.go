package testbed

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/gotool"
)

// TestUpgradeOfALandedAgent replaces an agent as it landed once by the present one, with runs in flight, an open
// terminal and figures that could not be sent, and goes back. Nothing is lost either way.
func TestUpgradeOfALandedAgent(t *testing.T) {
	b := newBox(t, "box-landed")
	b.Do("build")
	landed := filepath.Join(t.TempDir(), "app")
	b.Do("app", landed, gotool.Agent(t, gotool.LandedAgent, "1.0.0"))
	present := b.App("2.0.0")

	b.Do("up", landed)
	wait(t, "the landed version", func() bool { return b.Version("1") == "1.0.0" })
	wait(t, "a status without a fault", func() bool { return b.statusGood(t, "1") })
	b.replaced(t, present, "2.0.0")
	b.replaced(t, landed, "1.0.0")
}

// replaced deploys app, which has the agent of a version, while work is in flight and CloudWatch is down.
func (b *box) replaced(t *testing.T, app, version string) {
	w := b.startWork(t)
	b.On("1", "systemctl stop box-cloudwatch")
	spooled := func() []string { return strings.Fields(b.On("1", "find /var/lib/agent/spool -type f -printf '%f '")) }
	wait(t, "a batch that could not be sent", func() bool { return len(spooled()) > 0 })
	before := spooled()

	b.Do("deploy", app)
	wait(t, "the version "+version, func() bool { return b.Version("1") == version })
	b.goesOn(t, w)
	if after := spooled(); len(after) < len(before) || !slices.Contains(after, before[0]) {
		t.Errorf("the spool had %s, and has %s", before, after)
	}
	b.On("1", "systemctl start box-cloudwatch")
	wait(t, "an empty spool", func() bool { return b.Holds("1", "agent status | grep -q '^ok .*metrics .* 0 waiting, 0 dropped'") })
	b.endWork(t, w)
	if history := b.On("1", "agent cron history"); !strings.Contains(history, w.job) {
		t.Errorf("the history does not have %s:\n%s", w.job, history)
	}
	b.sameEnvironment(t, "1")
	wait(t, "a supervisor of that version and a good status", func() bool { return b.fresh(t, "1") })
}
