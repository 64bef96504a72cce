package cron

import (
	"sync/atomic"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/collectors"
	"beanstalk-agent/scheduler"
)

// counters count since they were last taken.
type counters struct {
	ran, failed, missed, overlapped, overdue, exec atomic.Int64
}

func (n *counters) event(e scheduler.Event) {
	switch e.Kind {
	case scheduler.Missed:
		n.missed.Add(int64(e.Count))
	case scheduler.Overlapped:
		n.overlapped.Add(int64(e.Count))
	case scheduler.Overdue:
		n.overdue.Add(1)
	}
}

func (n *counters) ended(r runs.Run) {
	n.ran.Add(1)
	if r.ExitCode != 0 && !r.Interrupted() && !r.Replaced() || r.State == runs.StateLost {
		n.failed.Add(1)
	}
}

// ZeroSamples appends what Samples does where there are jobs and nothing has happened.
func ZeroSamples(out []collectors.Sample) []collectors.Sample { return new(counters).take(out) }

func (n *counters) take(out []collectors.Sample) []collectors.Sample {
	count := func(name string, c *atomic.Int64) collectors.Sample {
		return collectors.Sample{Name: name, Unit: collectors.Count, Value: float64(c.Swap(0))}
	}
	return append(out, count("cron_runs", &n.ran), count("cron_failed", &n.failed),
		count("cron_missed", &n.missed), count("cron_overlapped", &n.overlapped), count("cron_overdue", &n.overdue))
}
