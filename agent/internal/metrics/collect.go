package metrics

import (
	"context"
	"io"
	"regexp"
	"sync/atomic"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/collectors"
)

// webGroup is the name of the web process's group, whether it is configured or found.
const webGroup = "web"

// collect lists the collectors: of the host, of the application's listening socket, of the process groups, and more.
func (m *Metrics) collect(cfg Config, more ...collectors.Collector) {
	listens := &owners{app: m.app, services: true}
	m.disk = collectors.NewDisk(collectors.DiskConfig{})
	list := []collectors.Collector{
		// The CloudWatch agent's namespace promises the CloudWatch agent's meaning of "used".
		collectors.NewHost(collectors.HostConfig{CloudWatchAgentFormula: cfg.CWAgent}),
		m.disk,
		m.following("listen", func(w app.Workers) collectors.Collector {
			return collectors.NewListen(collectors.ListenConfig{Port: w.Port, UnixPath: w.Path, Counts: listens.count})
		}),
	}
	for _, path := range cfg.Disks {
		list = append(list, collectors.NewDisk(collectors.DiskConfig{Holding: path}))
	}
	list = append(list, m.groups(cfg.Groups)...)
	m.sources = collectors.NewGatherer(cfg.Sample*4/5, append(list, more...)...)
	m.loop.interval, m.loop.gather = cfg.Sample, m.sources.Gather
}

// groups are the configured process groups and the web process, which is always one of them: a configured group of
// that name says where it is.
func (m *Metrics) groups(configured []Group) (list []collectors.Collector) {
	for _, g := range configured {
		c := collectors.GroupConfig{Name: g.Name, Unit: g.Unit, Port: uint16(g.Port)}
		if g.User != anyUser {
			c.Counts = (&owners{app: m.app, name: g.User, services: g.Port != 0}).count
		}
		if g.Match != "" {
			c.Match = regexp.MustCompile(g.Match) // Check has compiled it before
		}
		group := collectors.NewGroup(c)
		if g.Name == webGroup {
			m.web.Store(group)
		}
		list = append(list, group)
	}
	if m.web.Load() == nil {
		list = append(list, m.following("group "+webGroup, func(w app.Workers) collectors.Collector {
			c := collectors.GroupConfig{Name: webGroup, Unit: w.Unit, Port: w.Port, UnixPath: w.Path,
				Counts: (&owners{app: m.app, services: true}).count}
			group := collectors.NewGroup(c)
			m.web.Store(group)
			return group
		}))
	}
	return list
}

func (m *Metrics) following(name string, open func(app.Workers) collectors.Collector) *reopening {
	return &reopening{name: name, find: m.app.Workers, open: open, deployments: &m.deployments}
}

// findEvery is how often the web process is looked for between deployments: an agent can be older than the first one.
const findEvery = time.Minute

// reopening is a collector of the web process that is opened again when the process has moved.
type reopening struct {
	name        string
	find        func(context.Context) app.Workers
	open        func(app.Workers) collectors.Collector
	deployments *atomic.Uint64

	seen    uint64 // of deployments
	next    time.Time
	at      app.Workers
	current collectors.Collector
}

func (r *reopening) Name() string { return r.name }

func (r *reopening) Collect(ctx context.Context) ([]collectors.Sample, error) {
	if t, n := time.Now(), r.deployments.Load(); n != r.seen || !t.Before(r.next) {
		r.seen, r.next = n, t.Add(findEvery)
		at := r.find(context.WithoutCancel(ctx)) // limited itself; cut short, it is a wrong guess for a minute
		if r.current == nil || at != r.at {
			r.Close()
			r.at, r.current = at, r.open(at)
		}
	}
	return r.current.Collect(ctx)
}

// Close closes the current collector.
func (r *reopening) Close() error {
	if c, ok := r.current.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// counter is the collector of a Counter.
type counter struct {
	Counter
	out []collectors.Sample
}

func (c *counter) Name() string { return c.Counter.Name }

func (c *counter) Collect(context.Context) ([]collectors.Sample, error) {
	c.out = c.Read(c.out[:0])
	return c.out, nil
}
