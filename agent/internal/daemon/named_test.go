package daemon

import (
	"os"
	"testing"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
)

// A run of before the instance's id was known, and one that an older agent gave the host's name, are of this instance.
// What has another name stays: its record may have come with an image of another instance.
func TestRunsHaveTheInstancesName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	inst := platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir()})
	n := namedRuns{app: app.New(app.Config{}, inst)}
	here := n.app.Name()
	for was, want := range map[string]string{"": here, host: here, "i-0abc": "i-0abc"} {
		r := runs.Run{Meta: map[string]string{runs.MetaHost: was, runs.MetaLogin: "ada"}}
		if was == "" {
			delete(r.Meta, runs.MetaHost)
		}
		if got := n.named(r); got.Meta[runs.MetaHost] != want || got.Meta[runs.MetaLogin] != "ada" {
			t.Errorf("%q: got %v, want host %q", was, got.Meta, want)
		}
	}
	if got := n.named(runs.Run{}); got.Meta[runs.MetaHost] != here {
		t.Errorf("of a run without facts: %v", got.Meta)
	}
}
