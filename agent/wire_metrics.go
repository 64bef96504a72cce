package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/sampling"
	"beanstalk-agent/collectors"
)

// metricsParts are the parts of the pipeline that others look at.
type metricsParts struct {
	publisher *cloudwatch.Publisher
	loop      *sampling.Loop
	sources   io.Closer // closed once the loop has ended
	web       *collectors.Group
}

func newMetrics(cfg config.Config, inst *platform.Instance, aws *awsconf.AWS, port int, check *health.Checker, cron *cronParts, log *slog.Logger) (*metricsParts, error) {
	m := cfg.Metrics
	if m.CWAgent {
		m.Namespace = cloudwatch.CWAgentNamespace
	}
	p, err := cloudwatch.New(cloudwatch.Config{
		Namespace: m.Namespace, Dimensions: m.Dimensions, Instance: m.PerInstance, Interval: m.Interval, Send: cloudwatch.Mode(m.Send),
		Dimension: func(name string) string { return dimension(inst.Facts(), name) },
		Connect:   aws.CloudWatch, SpoolDir: filepath.Join(cfg.StateDir, "spool"), Logger: log,
		Skip:      func(s collectors.Sample) bool { return kept[s.Name] },
		Published: debug.FreeOSMemory, // measured: 1.2 to 2.4 MB less for 2 ms of CPU
	})
	if err != nil {
		return nil, err
	}
	parts := &metricsParts{publisher: p, web: collectors.NewGroup(webGroup(inst, port))}
	// The CloudWatch agent's namespace promises the CloudWatch agent's meaning of "used".
	host := collectors.NewHost(collectors.HostConfig{CloudWatchAgentFormula: m.CWAgent})
	list := append(sources(host, port), parts.groups(cfg)...)
	list = append(list, collectors.NewOOM(collectors.OOMConfig{Report: func(v collectors.Victim) { tellVictim(v, log) }}),
		figures{"health", func() []collectors.Sample { return healthSamples(check.Figures()) }}, figures{"cron", cron.samples})
	g := collectors.NewGatherer(m.Sample*4/5, list...)
	parts.sources = g
	parts.loop = &sampling.Loop{Interval: m.Sample, Gather: g.Gather, Sinks: []func(collectors.Batch){p.Add}}
	return parts, nil
}

// kept are figures that stay on the instance, in status and for those who ask:
// each series costs money every month, and nobody sets an alarm on these.
var kept = map[string]bool{
	"collector_duration": true, "collector_ok": true, "mem_total": true, "mem_available": true,
	"pressure_memory_full": true, "pressure_io_full": true, "load_1m": true,
	"group_memory_pss_age": true, "group_memory_rss": true, "group_memory_anon": true, "group_exits": true,
	"listen_backlog_limit": true, "agent_goroutines": true, "agent_memory_rss": true, "agent_cpu": true,
}

// tellVictim says whom the kernel killed for want of memory. A run has a control
// group of its own that bears its id.
func tellVictim(v collectors.Victim, log *slog.Logger) {
	a := []any{"process", v.Command, "pid", v.PID, "anon_mb", v.Anon >> 20, "cgroup", v.Cgroup, "limit", v.Limit}
	if _, run, ok := strings.Cut(v.Cgroup, "agent-runs.service/"); ok {
		a = append(a, "run", path.Base(run))
	}
	log.Error("the kernel killed a process for want of memory", a...)
}

func dimension(f platform.Facts, name string) string {
	switch name {
	case "EnvironmentName":
		return f.EnvironmentName
	case "InstanceId":
		return f.InstanceID
	}
	return ""
}

func webGroup(inst *platform.Instance, port int) collectors.GroupConfig {
	return collectors.GroupConfig{Name: "web", Unit: inst.Facts().WebUnit, Port: uint16(port)}
}

// sources are what is measured of the host, of the application's listening
// socket, and of the agent itself.
func sources(host *collectors.Host, port int) []collectors.Collector {
	return []collectors.Collector{
		host,
		collectors.NewDisk(collectors.DiskConfig{}),
		collectors.NewListen(collectors.ListenConfig{Port: uint16(port)}),
		collectors.NewSelf(),
	}
}

// groups are the configured process groups, by default the web process.
func (m *metricsParts) groups(cfg config.Config) (list []collectors.Collector) {
	if len(cfg.Metrics.Groups) == 0 {
		return []collectors.Collector{m.web}
	}
	for _, g := range cfg.Metrics.Groups {
		c := collectors.GroupConfig{Name: g.Name, Unit: g.Unit, Port: uint16(g.Port)}
		if g.Match != "" {
			c.Match = regexp.MustCompile(g.Match) // config has compiled it once already
		}
		group := collectors.NewGroup(c)
		if g.Name == "web" {
			m.web = group
		}
		list = append(list, group)
	}
	return list
}

// capacity is what the measured workers say about how many fit.
func (m *metricsParts) capacity() (capacity.Advice, error) {
	g := m.web.Snapshot()
	if len(g.Processes) == 0 {
		return capacity.Advice{}, unavailable(errors.New("no web process has been found yet"))
	}
	in := capacity.Measured{CPUs: runtime.NumCPU()}
	for _, s := range m.loop.Last().Samples {
		switch {
		case s.Name == "mem_total":
			in.Total = uint64(s.Value)
		case s.Name == "mem_available":
			in.Available = uint64(s.Value)
		case s.Name == "listen_backlog":
			in.Backlog, in.BacklogKnown = int(s.Value), true
		case s.Name == "group_cpu" && len(s.Labels) > 0 && s.Labels[0].Value == "web":
			in.CPU = s.Value
		}
	}
	parents := map[int]bool{}
	for _, p := range g.Processes {
		parents[p.Parent] = true
	}
	for _, p := range g.Processes {
		w := capacity.Worker{Private: p.Private, PSS: p.PSS, Age: g.At.Sub(p.Started), CPU: p.CPU}
		if parents[p.PID] && len(g.Processes) > 1 {
			in.Master = w
		} else {
			in.Workers = append(in.Workers, w)
		}
	}
	return capacity.Advise(in), nil
}

// figures is a collector of what another part of the agent counts.
type figures struct {
	name string
	read func() []collectors.Sample
}

func (f figures) Name() string                                         { return f.name }
func (f figures) Collect(context.Context) ([]collectors.Sample, error) { return f.read(), nil }

func healthSamples(f health.Figures) []collectors.Sample {
	if f.LastProbe.IsZero() {
		return nil
	}
	bad := 0.0
	if f.State == health.Unhealthy {
		bad = 1
	}
	return []collectors.Sample{
		{Name: "health_unhealthy", Unit: collectors.Count, Value: bad},
		{Name: "health_latency", Unit: collectors.Milliseconds, Value: float64(f.Latency) / float64(time.Millisecond)},
	}
}
