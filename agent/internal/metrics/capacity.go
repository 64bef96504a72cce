package metrics

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/collectors"
)

// staleAfter is how far the web processes' figures may lie behind those of the host. A process can hold them up.
const staleAfter = 5 * time.Minute

// maxProcfile is far above what a Procfile of some processes takes, in bytes.
const maxProcfile = 64 << 10

// Capacity is how many workers fit, from the measured ones, with the share target of the memory in use; 0: the usual.
func (m *Metrics) Capacity(target float64) (capacity.Advice, error) {
	web := m.web.Load()
	var g collectors.GroupSnapshot
	if web != nil {
		g = web.Snapshot()
	}
	if len(g.Processes) == 0 {
		return capacity.Advice{}, api.Unavailable(errors.New("no web process has been found yet"))
	}
	newest := m.loop.newest()
	if newest.At.Sub(g.At) > staleAfter {
		return capacity.Advice{}, api.Unavailable(fmt.Errorf(
			"the web processes were last measured at %s: one may not answer", g.At.UTC().Format(time.RFC3339)))
	}
	in := capacity.Measured{CPUs: runtime.NumCPU(), Target: target, Load: m.recent.Load(g.At),
		SetBy: capacity.PythonOptions}
	if text, err := m.app.ReadFile("Procfile", maxProcfile); err == nil {
		in.SetBy = capacity.SetByOf(text)
	}
	for _, s := range newest.Samples {
		switch s.Name {
		case "mem_total":
			in.Total = uint64(s.Value)
		case "mem_available":
			in.Available = uint64(s.Value)
		}
	}
	var ps []capacity.Process
	for _, p := range g.Processes {
		ps = append(ps, capacity.Process{PID: p.PID, Parent: p.Parent,
			Worker: capacity.Worker{Private: p.Private, PSS: p.PSS, Age: g.At.Sub(p.Started), CPU: p.CPU}})
	}
	in.Workers, in.Rest = capacity.Split(ps)
	return capacity.Advise(in), nil
}

// addLoad records the load that the advice rests on.
func (m *Metrics) addLoad(b collectors.Batch) {
	var l capacity.Load
	for _, s := range b.Samples {
		switch {
		case s.Name == "listen_backlog":
			l.Backlog, l.BacklogKnown = int(s.Value), true
		case s.Name == "group_cpu" && s.Labels[0].Value == webGroup:
			l.CPU = s.Value
		}
	}
	m.recent.Add(b.At, l)
}

// headroomEvery is how often the advice is computed again; workers grow slowly.
const headroomEvery = time.Minute

// headroom is the collector of worker_headroom: how many more workers fit. While that is not known there is no sample,
// since an alarm would take 0 for an answer.
type headroom struct {
	advise func() (capacity.Advice, error)
	next   time.Time
	out    []collectors.Sample
}

func (h *headroom) Name() string { return "capacity" }

// Collect computes the advice once a minute and returns it at every tick.
func (h *headroom) Collect(context.Context) ([]collectors.Sample, error) {
	if now := time.Now(); !now.Before(h.next) {
		h.next, h.out = now.Add(headroomEvery), h.out[:0]
		if a, err := h.advise(); err == nil && a.Verdict != capacity.NotWarm {
			h.out = append(h.out, headroomSample(a.Headroom))
		}
	}
	if len(h.out) == 0 {
		return nil, collectors.ErrNoData
	}
	return h.out, nil
}

func headroomSample(n int) collectors.Sample {
	return collectors.Sample{Name: "worker_headroom", Unit: collectors.Count, Value: float64(n)}
}
