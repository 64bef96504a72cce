// Package metrics samples the host, the application and the agent itself, and hands each batch to CloudWatch and to
// the advice on capacity.
//
// Contract: each batch has one timestamp, which is a multiple of the interval of the wall clock, so that the batches
// of all instances of a fleet fold into the same minutes. A tick that comes late is skipped: figures of the past
// cannot be read any more. A steady tick allocates nothing here.
//
// A verb that finds no agent collects by the same list of collectors in its own process: see [Here].
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/capacity"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/collectors"
)

// Config says what is measured, how often, and where it goes.
type Config struct {
	Namespace   string
	Dimensions  [][]string
	PerInstance bool          // each set is published with InstanceId, too
	CWAgent     bool          // the CloudWatch agent's namespace, dimensions and formula
	Interval    time.Duration // one publish
	Sample      time.Duration // one sample
	Send        string        // on, off or auto
	SendOnly    []string      // names that are sent; empty: all
	Groups      []Group       // process groups beside the web process
	Disks       []string      // paths: a series of the filesystem that holds each, beside the fullest

	Counters []Counter // of other parts of the agent

	// Of a running agent. Connect and SpoolDir as in cloudwatch.Config; RunName returns the kind and the name of a run.
	Connect  func(context.Context) (aws.Config, error)
	SpoolDir string
	RunName  func(ctx context.Context, id string) (string, error)
	Log      *slog.Logger
}

// Group is one process group; one of Unit, Port and Match says which.
type Group struct {
	Name  string
	Unit  string
	Port  int
	Match string
	User  string // whose processes count by Port or Match; "any": everybody's; "": as owners has it
}

// Counter is a part of the agent that counts for itself, such as cron.
type Counter struct {
	Name string
	Read func(out []collectors.Sample) []collectors.Sample // appends
}

// Metrics is the pipeline of a running agent.
type Metrics struct {
	app       *app.App
	log       *slog.Logger
	runName   func(ctx context.Context, id string) (string, error)
	publisher *cloudwatch.Publisher
	sources   *collectors.Gatherer
	loop      loop
	disk      *collectors.Disk

	web         atomic.Pointer[collectors.Group] // nil until the web process is looked for
	deployments atomic.Uint64
	recent      capacity.Recent
	killed      atomic.Pointer[oomKill] // the last one
}

// New builds the pipeline and starts nothing.
func New(cfg Config, a *app.App) (*Metrics, error) {
	m := &Metrics{app: a, log: cfg.Log, runName: cfg.RunName}
	c := publisherConfig(cfg, a)
	c.Send, c.Connect, c.SpoolDir, c.Logger = cloudwatch.Mode(cfg.Send), cfg.Connect, cfg.SpoolDir, cfg.Log
	c.Published = debug.FreeOSMemory // measured: 1.2 to 2.4 MB less for 2 ms of CPU
	p, err := cloudwatch.New(c)
	if err != nil {
		return nil, err
	}
	m.publisher = p
	more := []collectors.Collector{collectors.NewSelf(),
		collectors.NewOOM(collectors.OOMConfig{Name: m.killedRun, Report: m.reportOOMKill})}
	for _, c := range cfg.Counters {
		more = append(more, &counter{Counter: c})
	}
	advise := func() (capacity.Advice, error) { return m.Capacity(0) }
	m.collect(cfg, append(more, &headroom{advise: advise})...)
	m.loop.sinks = []func(collectors.Batch){m.addLoad, p.Add, func(b collectors.Batch) { p.Add(failures(b)) }}
	return m, nil
}

// Publish sends what is sampled, until ctx is done; then it sends the interval under way or leaves it on disk. Stop it
// after Sample.
func (m *Metrics) Publish(ctx context.Context) error { return m.publisher.Run(ctx) }

// Sample samples until ctx is done, once more then, and closes the collectors.
func (m *Metrics) Sample(ctx context.Context) error {
	defer m.sources.Close()
	m.loop.run(ctx)
	return nil
}

// Deployed says that a deployment may have moved the web process.
func (m *Metrics) Deployed() { m.deployments.Add(1) }

// Payload is what one publish would send, and what no series says.
type Payload struct {
	cloudwatch.Payload
	FullestDisk *collectors.Filesystem `json:"fullest_disk,omitempty"` // that disk_used_percent is of
}

// Preview returns what would be sent if the interval ended now.
func (m *Metrics) Preview() Payload { return Payload{m.publisher.Preview(), m.disk.Fullest()} }

// Cost returns what the present series cost in a month, published by so many instances.
func (m *Metrics) Cost(instances int) cloudwatch.Cost { return m.publisher.Cost(instances) }

// publisherConfig says what the samples become, with an agent and without.
func publisherConfig(cfg Config, a *app.App) cloudwatch.Config {
	if cfg.CWAgent {
		cfg.Namespace = cloudwatch.CWAgentNamespace
	}
	return cloudwatch.Config{Namespace: cfg.Namespace, Dimensions: cfg.Dimensions, Instance: cfg.PerInstance,
		Interval: cfg.Interval, Dimension: newDimensions(a).value,
		Skip: func(s collectors.Sample) bool {
			return unpublished[s.Name] || len(cfg.SendOnly) > 0 && !slices.Contains(cfg.SendOnly, s.Name)
		}}
}

// unpublished samples serve the advice on capacity and tests. Each series costs money every month, and an alarm on
// one of these is of no use.
var unpublished = map[string]bool{
	"collector_duration": true, "collector_ok": true, "mem_total": true, "mem_available": true,
	"pressure_memory_full": true, "pressure_io_full": true, "load_1m": true,
	"group_memory_pss_age": true, "group_memory_rss": true, "group_memory_anon": true, "group_exits": true,
	"listen_backlog_limit": true, "agent_goroutines": true, "agent_memory_rss": true, "agent_cpu": true,
}

// failures counts the collectors that failed, when some did: a series that is always 0 is paid for.
func failures(b collectors.Batch) collectors.Batch {
	n := 0
	for _, r := range b.Results {
		stopped := errors.Is(r.Err, context.Canceled)
		if r.Err != nil && !errors.Is(r.Err, collectors.ErrNoData) && !stopped {
			n++
		}
	}
	if n == 0 {
		return collectors.Batch{}
	}
	failed := collectors.Sample{Name: "collectors_failed", Unit: collectors.Count, Value: float64(n)}
	return collectors.Batch{At: b.At, Samples: []collectors.Sample{failed}}
}
