package health

import (
	"time"

	"beanstalk-agent/collectors"
)

// askedWithin is longer than any load balancer's time between two checks (300 s).
const askedWithin = 10 * time.Minute

// Samples appends the verdict and the latency, as long as requests come: a verdict of long ago is not the present one.
func (c *Checker) Samples(out []collectors.Sample) []collectors.Sample {
	return c.Figures().Samples(out)
}

// Samples is Checker.Samples for given figures.
func (f Figures) Samples(out []collectors.Sample) []collectors.Sample {
	if time.Since(f.LastProbe) > askedWithin {
		return out
	}
	bad := 0.0
	if f.State == Unhealthy {
		bad = 1
	}
	latency := float64(f.Latency) / float64(time.Millisecond)
	return append(out,
		collectors.Sample{Name: "health_unhealthy", Unit: collectors.Count, Value: bad},
		collectors.Sample{Name: "health_latency", Unit: collectors.Milliseconds, Value: latency})
}
