package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/sampling"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/collectors"
)

// metricsParts are the parts of the pipeline that others look at.
type metricsParts struct {
	publisher *cloudwatch.Publisher
	loop      *sampling.Loop
	sources   io.Closer                        // closed once the loop has ended
	web       atomic.Pointer[collectors.Group] // nil until it is looked for
	recent    capacity.Recent
	victim    atomic.Pointer[victim] // the last process killed for want of memory
	appDir    func() string
	deployed  atomic.Uint64 // counts what may have moved the web process
}

// victim is what the kernel killed, in words.
type victim struct {
	at   time.Time
	text string
}

// webName is the group that the web process is, configured or found.
const webName = "web"

func newMetrics(cfg config.Config, a *app.App, aws *awsconf.AWS, check *health.Checker, cron *cronParts, log *slog.Logger) (*metricsParts, error) {
	inst, env := a.Instance(), a.Env()
	c := publisherConfig(cfg, inst, env)
	c.Send, c.Connect, c.SpoolDir, c.Logger = cloudwatch.Mode(cfg.Metrics.Send), aws.CloudWatch, filepath.Join(cfg.StateDir, "spool"), log
	c.Published = debug.FreeOSMemory // measured: 1.2 to 2.4 MB less for 2 ms of CPU
	p, err := cloudwatch.New(c)
	if err != nil {
		return nil, err
	}
	parts := &metricsParts{publisher: p, appDir: func() string { return inst.Facts().AppDir }}
	parts.gather(cfg, func() place { return findWeb(a) }, collectors.NewSelf(),
		collectors.NewOOM(collectors.OOMConfig{Name: func(_ int, cgroup string) string { return victimName(cron.runs, cgroup) },
			Report: func(v collectors.Victim) { parts.tellVictim(v, log) }}),
		&figures{name: "health", read: func(out []collectors.Sample) []collectors.Sample { return healthSamples(out, check.Figures()) }},
		&figures{name: "cron", read: cron.samples},
		&headroom{advise: func() (capacity.Advice, error) { return parts.capacity(0) }})
	parts.loop.Sinks = []func(collectors.Batch){parts.watch, p.Add, func(b collectors.Batch) { p.Add(failures(b)) }}
	return parts, nil
}

// failures says how many collectors failed, when some did: a series that is always
// 0 is one paid for.
func failures(b collectors.Batch) collectors.Batch {
	n := 0
	for _, r := range b.Results {
		if r.Err != nil && !errors.Is(r.Err, collectors.ErrNoData) && !errors.Is(r.Err, context.Canceled) { // we are stopping
			n++
		}
	}
	if n == 0 {
		return collectors.Batch{}
	}
	return collectors.Batch{At: b.At, Samples: []collectors.Sample{{Name: "collectors_failed", Unit: collectors.Count, Value: float64(n)}}}
}

// publisherConfig says what the figures become, whoever sends them.
func publisherConfig(cfg config.Config, inst *platform.Instance, env *appenv.Resolver) cloudwatch.Config {
	m := cfg.Metrics
	if m.CWAgent {
		m.Namespace = cloudwatch.CWAgentNamespace
	}
	return cloudwatch.Config{Namespace: m.Namespace, Dimensions: m.Dimensions, Instance: m.PerInstance, Interval: m.Interval,
		Dimension: func(name string) string { return dimension(inst.Facts(), env, name) },
		Skip:      func(s collectors.Sample) bool { return kept[s.Name] }}
}

// gather makes the loop that asks the collectors: those of the host, of the
// application's listening socket, of the process groups, and more.
func (m *metricsParts) gather(cfg config.Config, find func() place, more ...collectors.Collector) {
	list := []collectors.Collector{
		// The CloudWatch agent's namespace promises the CloudWatch agent's meaning of "used".
		collectors.NewHost(collectors.HostConfig{CloudWatchAgentFormula: cfg.Metrics.CWAgent}),
		collectors.NewDisk(collectors.DiskConfig{}),
		&following{name: "listen", find: find, deployed: &m.deployed, make: func(p place) collectors.Collector {
			return collectors.NewListen(collectors.ListenConfig{Port: p.port, UnixPath: p.path})
		}},
	}
	list = append(list, m.groups(cfg.Metrics.Groups, find)...)
	g := collectors.NewGatherer(cfg.Metrics.Sample*4/5, append(list, more...)...)
	m.sources = g
	m.loop = &sampling.Loop{Interval: cfg.Metrics.Sample, Gather: g.Gather}
}

// kept are figures that stay here, for the advice on capacity and for tests: each
// series costs money every month, and nobody sets an alarm on these.
var kept = map[string]bool{
	"collector_duration": true, "collector_ok": true, "mem_total": true, "mem_available": true,
	"pressure_memory_full": true, "pressure_io_full": true, "load_1m": true,
	"group_memory_pss_age": true, "group_memory_rss": true, "group_memory_anon": true, "group_exits": true,
	"listen_backlog_limit": true, "agent_goroutines": true, "agent_memory_rss": true, "agent_cpu": true,
}

// tellVictim says whom the kernel killed for want of memory, in the log and in status.
func (m *metricsParts) tellVictim(v collectors.Victim, log *slog.Logger) {
	text := fmt.Sprintf("%s, process %d", v.Command, v.PID)
	if v.Name != "" {
		text = v.Name + " (" + text + ")"
	}
	m.victim.Store(&victim{v.At, text})
	log.Error("the kernel killed a process for want of memory", "what", v.Name,
		"process", v.Command, "pid", v.PID, "anon_mb", v.Anon>>20, "cgroup", v.Cgroup, "limit", v.Limit)
}

// victimName says what a killed process was to us. A run has a control group of
// its own that bears its id, a service one that bears its name.
func victimName(runs *supervisor.Client, cgroup string) string {
	_, below, ours := strings.Cut(cgroup, "agent-runs.service/")
	switch {
	case cgroup == "":
		return ""
	case !ours:
		return path.Base(cgroup)
	}
	id, _, _ := strings.Cut(below, "/")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := runs.Get(ctx, id)
	if err != nil {
		return "run " + id
	}
	return strings.TrimSpace(r.Kind+" "+r.Name) + ", run " + id
}

// groupVariable is the property of the environment that holds the name of the
// Auto Scaling group: an instance cannot know it otherwise without asking for
// another permission. packaging/examples/auto-scaling-group.config sets it.
const groupVariable = "AUTO_SCALING_GROUP"

// dimensionHints say how a dimension that is not known becomes so.
var dimensionHints = map[string]string{
	"AutoScalingGroupName": "set the environment property " + groupVariable + ": packaging/examples/auto-scaling-group.config",
	"InstanceId":           "allow the instance metadata service",
}

func dimension(f platform.Facts, env *appenv.Resolver, name string) string {
	switch name {
	case "EnvironmentName":
		return f.EnvironmentName
	case "InstanceId":
		return f.InstanceID
	case "AutoScalingGroupName":
		if e, err := env.Resolve(context.Background()); err == nil {
			group, _ := e.Lookup(groupVariable)
			return group
		}
	}
	return ""
}

// groups are the configured process groups and the web process, which is always
// one of them: a configured group of that name says where it is.
func (m *metricsParts) groups(configured []config.Group, find func() place) (list []collectors.Collector) {
	for _, g := range configured {
		c := collectors.GroupConfig{Name: g.Name, Unit: g.Unit, Port: uint16(g.Port)}
		if g.Match != "" {
			c.Match = regexp.MustCompile(g.Match) // config has compiled it once already
		}
		group := collectors.NewGroup(c)
		if g.Name == webName {
			m.web.Store(group)
		}
		list = append(list, group)
	}
	if m.web.Load() == nil {
		list = append(list, &following{name: "group " + webName, find: find, deployed: &m.deployed, make: func(p place) collectors.Collector {
			group := collectors.NewGroup(collectors.GroupConfig{Name: webName, Unit: p.unit, Port: p.port, UnixPath: p.path})
			m.web.Store(group)
			return group
		}})
	}
	return list
}

// figures is a collector of what another part of the agent counts.
type figures struct {
	name string
	read func(out []collectors.Sample) []collectors.Sample // appends
	out  []collectors.Sample
}

func (f *figures) Name() string { return f.name }

func (f *figures) Collect(context.Context) ([]collectors.Sample, error) {
	f.out = f.read(f.out[:0])
	return f.out, nil
}

// nobodyAsks is longer than any load balancer leaves between two checks (300 s).
const nobodyAsks = 10 * time.Minute

// healthSamples is nothing once nobody asks: how it was then is not how it is.
func healthSamples(out []collectors.Sample, f health.Figures) []collectors.Sample {
	if time.Since(f.LastProbe) > nobodyAsks {
		return out
	}
	bad := 0.0
	if f.State == health.Unhealthy {
		bad = 1
	}
	return append(out,
		collectors.Sample{Name: "health_unhealthy", Unit: collectors.Count, Value: bad},
		collectors.Sample{Name: "health_latency", Unit: collectors.Milliseconds, Value: float64(f.Latency) / float64(time.Millisecond)})
}
