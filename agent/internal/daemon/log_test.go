package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// journald takes so many lines of a unit and drops the rest, whatever they say. A flood of jobs is summed up, and what
// a person did is there in any case.
func TestAFloodOfLinesIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := limitLines(slog.NewTextHandler(&out, nil))
		for range 20_000 {
			log.Info("job waits", "job", "a")
			log.With("part", "cron").Info("job skipped")
		}
		log.Error("supervisor gone")
		for range 100 {
			log.Info("run started", "caller", "ec2-user")
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		s := out.String()
		waits, skipped, audit := strings.Count(s, "job waits"), strings.Count(s, "job skipped"), strings.Count(s, "caller=ec2-user")
		if waits+skipped > maxAll+2 || audit != 100 || !strings.Contains(s, "supervisor gone") {
			t.Errorf("%d, %d and %d lines", waits, skipped, audit)
		}
		if !strings.Contains(s, `msg="job waits" more=199`) || !strings.Contains(s, `msg="job skipped" more=199`) {
			t.Errorf("no sum in\n%s", s)
		}
		out.Reset()
		log.Info("job waits", "job", "a")
		if !strings.Contains(out.String(), "job=a") {
			t.Errorf("a second later: %q", &out)
		}
		time.Sleep(2 * time.Second) // its timer ends
	})
}
