package metrics

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/collectors"
)

// Status says how the delivery stands, and what could not be measured.
func (m *Metrics) Status(context.Context) []api.Line {
	s := m.publisher.Status()
	lines := []api.Line{delivery(s)}
	warn := func(hint, format string, a ...any) {
		lines = append(lines, api.NewLine("metrics", api.Warn, hint, format, a...))
	}
	if s.DiskError != "" {
		warn("df -h /var/lib/agent", "what waits is in memory alone, and lost when the agent ends: %s", s.DiskError)
	}
	if f := m.disk.Fullest(); f != nil {
		lines = append(lines, api.NewLine("metrics", api.Note, "",
			"the fullest disk is %s: %.0f %% used", f.Path, f.UsedPercent))
	}
	for _, name := range s.Unknown {
		warn(dimensionHints[name], "%s is not known here: the sets of metrics.dimensions with it are left out", name)
	}
	if k := m.killed.Load(); k != nil && time.Since(k.at) < 24*time.Hour {
		warn("", "the kernel killed %s for want of memory at %s", k.text, k.at.Format(time.TimeOnly))
	}
	for _, r := range m.loop.newest().Results {
		if r.Err != nil && !errors.Is(r.Err, collectors.ErrNoData) {
			warn("", "%s: %v", r.Collector, r.Err)
		}
	}
	return lines
}

func delivery(s cloudwatch.Status) api.Line {
	state := map[cloudwatch.State]api.State{cloudwatch.Sending: api.Good, cloudwatch.Local: api.Note,
		cloudwatch.Waiting: api.Warn, cloudwatch.Denied: api.Bad}[s.State]
	text := fmt.Sprintf("%s: %d series, %d sent, %d waiting, %d dropped",
		s.State, s.Series, s.Sent, s.Spooled, s.Dropped)
	if s.PossibleDuplicates > 0 {
		text += fmt.Sprintf(", %d possibly sent twice", s.PossibleDuplicates)
	}
	reason, hint, _ := strings.Cut(s.Reason, "; run: ")
	if reason != "" {
		text += ": " + reason
	}
	return api.Line{What: "metrics", State: state, Text: text, Hint: hint, Facts: map[string]any{
		"series": s.Series, "sent": s.Sent, "waiting": s.Spooled, "dropped": s.Dropped,
		"duplicates": s.PossibleDuplicates}}
}
