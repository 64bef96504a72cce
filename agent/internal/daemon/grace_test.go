package daemon

import (
	"testing"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// What a cron file may say is what a run is given when the machine shuts down.
func TestLongestGraceIsOne(t *testing.T) {
	if scheduler.MaxGrace != runs.MaxGrace {
		t.Errorf("a job may ask for %s, and has %s", scheduler.MaxGrace, runs.MaxGrace)
	}
}
