package health

import (
	"testing"
	"time"

	"beanstalk-agent/collectors"
)

// An alarm on a verdict of long ago would never end, or never ring.
func TestHealthOfLongAgoIsNoSample(t *testing.T) {
	f := Figures{LastProbe: time.Now().Add(-askedWithin + time.Minute), State: Unhealthy, Latency: 5 * time.Millisecond}
	f.LastState = f.LastProbe
	if out := f.Samples(nil); len(out) != 2 || out[0].Value != 1 || out[1].Value != 5 {
		t.Errorf("asked a while ago: got %v", out)
	}
	for _, unknown := range []Figures{{State: Unknown, LastState: f.LastState}, {}, {State: Unhealthy, LastState: f.LastState.Add(-time.Minute)}} {
		unknown.LastProbe = f.LastProbe // an operator's
		if out := unknown.Samples(nil); len(out) != 1 || out[0].Name != "health_latency" {
			t.Errorf("%+v: got %v, want no verdict", unknown, out)
		}
	}
	f.LastProbe = f.LastProbe.Add(-time.Minute)
	if out := f.Samples(nil); len(out) != 0 {
		t.Errorf("not asked any more: got %v", out)
	}
}

func TestSamplesAllocateNothing(t *testing.T) {
	c := &Checker{}
	c.figures.LastProbe, c.figures.LastState, c.judge.state = time.Now(), time.Now(), Healthy
	out := make([]collectors.Sample, 0, 2)
	if n := testing.AllocsPerRun(100, func() { out = c.Samples(out[:0]) }); n != 0 || len(out) != 2 {
		t.Errorf("%v allocations, %v", n, out)
	}
}
