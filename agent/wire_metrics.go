package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"time"

	"beanstalk-agent/agent/internal/awsconf"
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
}

func newMetrics(cfg config.Config, inst *platform.Instance, port int, check *health.Checker, cron *cronParts, log *slog.Logger) (*metricsParts, error) {
	m := cfg.Metrics
	aws, err := awsconf.New(awsconf.Config{Region: cfg.AWS.Region, CloudWatchEndpoint: cfg.AWS.CloudWatchEndpoint, S3Endpoint: cfg.AWS.S3Endpoint})
	if err != nil {
		return nil, err
	}
	if m.CWAgent {
		m.Namespace = cloudwatch.CWAgentNamespace
	}
	p, err := cloudwatch.New(cloudwatch.Config{
		Namespace: m.Namespace, Dimensions: m.Dimensions, Instance: m.PerInstance, Interval: m.Interval, Send: cloudwatch.Mode(m.Send),
		Dimension: func(name string) string { return dimension(inst.Facts(), name) },
		Connect:   aws.CloudWatch, SpoolDir: filepath.Join(cfg.StateDir, "spool"), Logger: log,
		Published: debug.FreeOSMemory, // measured: 1.2 to 2.4 MB less for 2 ms of CPU
	})
	if err != nil {
		return nil, err
	}
	g := collectors.NewGatherer(m.Sample*4/5, sources(cfg, inst, port, check, cron)...)
	loop := &sampling.Loop{Interval: m.Sample, Gather: g.Gather, Sinks: []func(collectors.Batch){p.Add}}
	return &metricsParts{publisher: p, loop: loop}, nil
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

// sources are what is measured: the host, the web process, its listening
// socket, the configured groups, and the agent itself.
func sources(cfg config.Config, inst *platform.Instance, port int, check *health.Checker, cron *cronParts) []collectors.Collector {
	web := collectors.GroupConfig{Name: "web", Unit: inst.Facts().WebUnit, Port: uint16(port)}
	list := []collectors.Collector{
		collectors.NewHost(collectors.HostConfig{}),
		collectors.NewDisk(collectors.DiskConfig{}),
		collectors.NewListen(collectors.ListenConfig{Port: uint16(port)}),
		collectors.NewSelf(),
		figures{"health", func() []collectors.Sample { return healthSamples(check.Figures()) }},
		figures{"cron", cron.samples},
	}
	if len(cfg.Metrics.Groups) == 0 {
		return append(list, collectors.NewGroup(web))
	}
	for _, g := range cfg.Metrics.Groups {
		c := collectors.GroupConfig{Name: g.Name, Unit: g.Unit, Port: uint16(g.Port)}
		if g.Match != "" {
			c.Match = regexp.MustCompile(g.Match) // config has compiled it once already
		}
		list = append(list, collectors.NewGroup(c))
	}
	return list
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
