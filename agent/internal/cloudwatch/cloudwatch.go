// Package cloudwatch delivers the figures of collectors to CloudWatch, or keeps them until it can.
//
// The samples of one interval become one datum a series: its values and how often each occurred, so that percentiles
// and extremes survive. At the end of the interval the datums are written to a spool on disk, sent, and deleted once
// CloudWatch has accepted them. Until it does the spool grows to a fixed size, then drops its oldest batches and counts
// them. A timestamp is the interval's, never the time of sending.
//
// Delivery is at least once. PutMetricData has no idempotency key: a batch is sent again when its answer was lost or
// the process died before recording it, and its datums count as possible duplicates. To know which batches those are,
// the SDK's retries must be off, and a batch is marked on disk before it is sent.
//
// The newest batch is sent first, because alarms read it. The backlog follows, oldest first, because the spool drops
// the oldest next; at one request a second, because a fleet that returns from an outage shares 500 requests a second
// with everything else in the account.
package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"beanstalk-agent/collectors"
)

// Mode says whether metrics leave the host.
type Mode string

// The modes. In Auto, metrics stay in memory while Connect fails and do not count as dropped: a laptop has no AWS.
const (
	On   Mode = "on"
	Off  Mode = "off"
	Auto Mode = "auto"
)

// CWAgentNamespace is the namespace of Amazon's own CloudWatch agent.
const CWAgentNamespace = "CWAgent"

// Config says what is sent, where, and what is kept until then.
type Config struct {
	// Required. Namespace of all metrics. With CWAgentNamespace the series also carry the dimension set that existing
	// dashboards, alarms and Compute Optimizer look for: InstanceId alone, as that agent's aggregation_dimensions.
	Namespace string

	// Required. Sets of dimension names; every series is published once for each set. A sample's own labels are
	// further dimensions of each.
	Dimensions [][]string

	// Required. Dimension returns the current value of a dimension, such as EnvironmentName, or "" when it is not
	// known; a set with an unknown value is left out, never sent in part. It is called at every publish, because an
	// instance's Auto Scaling group may change. It may take seconds: no lock is held.
	Dimension func(name string) string

	// Required unless Send is Off. Connect returns the client configuration once region and credentials are found.
	// It is called at growing intervals until it succeeds once. The client's retries must be off.
	Connect func(context.Context) (aws.Config, error)

	// Required unless Send is Off. SpoolDir is created with mode 0700 when missing. One publisher may use it.
	SpoolDir string

	// Optional.
	Interval   time.Duration                // one publish; 0: a minute. Should divide a day.
	Send       Mode                         // "": Auto
	Instance   bool                         // publish each set with InstanceId added, too: metrics.per_instance
	SpoolLimit int64                        // bytes on disk; 0: 16 MiB, most of a day of sixty series
	Skip       func(collectors.Sample) bool // reports samples that are not published; nil: none
	Published  func()                       // called when Run goes idle, about once an interval; nil: none
	Logger     *slog.Logger                 // nil: none
}

// Defaults and time limits.
const (
	defaultInterval = time.Minute
	defaultSpool    = 16 << 20
	flushLimit      = 5 * time.Second  // from the end of Run's context to its return
	requestLimit    = 15 * time.Second // one PutMetricData
)

// Publisher aggregates, spools and sends. Add, Preview, Status and Cost are safe for concurrent use, also without Run;
// Run may be called once.
type Publisher struct {
	config Config
	sets   [][]string
	logger *slog.Logger
	pace   time.Duration // between two batches of a backlog

	mu        sync.Mutex // guards what follows
	aggregate *aggregate
	last      Payload  // of the last closed interval
	unknown   []string // dimensions that had no value when last looked up
	counts    counts
	state     State
	logged    State  // the state logged last
	reason    string // why state is not Sending, as a sentence; "" when it is
	queue     spoolStats

	// Used by Run alone.
	api         API
	credentials aws.CredentialsProvider // of api
	spool       *spool
	next        schedule
	inFlight    bool         // an answer is awaited
	answer      chan outcome // with room for it
	quarantined int          // datums dropped as invalid since the last delivery
}

// New checks c and returns all its faults at once. It touches neither disk nor network.
func New(c Config) (*Publisher, error) {
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Send == "" {
		c.Send = Auto
	}
	if c.SpoolLimit == 0 {
		c.SpoolLimit = defaultSpool
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	p := &Publisher{config: c, sets: c.sets(), logger: c.Logger, pace: defaultPace, state: Local,
		aggregate: newAggregate(c.Interval), answer: make(chan outcome, 1)}
	if c.Send == On {
		p.state = Waiting
	}
	return p, nil
}

func (c Config) check() error {
	errs := []error{CheckNamespace(c.Namespace)}
	if c.Interval < time.Second {
		errs = append(errs, fmt.Errorf("publish every %v: at least one second is needed", c.Interval))
	}
	if c.Send != On && c.Send != Off && c.Send != Auto {
		errs = append(errs, fmt.Errorf("send metrics %q: must be on, off or auto", c.Send))
	}
	if c.Send != Off && (c.Connect == nil || c.SpoolDir == "") {
		errs = append(errs, errors.New("send metrics: Connect and SpoolDir are required"))
	}
	if len(c.Dimensions) == 0 || c.Dimension == nil {
		errs = append(errs, errors.New("publish metrics: at least one dimension set and its values are required, "+
			"such as [[EnvironmentName]]"))
	}
	for _, set := range c.Dimensions {
		errs = append(errs, CheckSet(set))
	}
	return errors.Join(errs...)
}

// CheckNamespace returns why CloudWatch would refuse a namespace.
func CheckNamespace(s string) error {
	if why := badNamespace(s); why != "" {
		return fmt.Errorf("use namespace %q: %s", s, why)
	}
	return nil
}

// CheckSet returns why a set of dimension names cannot be used.
func CheckSet(set []string) error {
	for _, name := range set {
		if why := badDimensionName(name); why != "" {
			return fmt.Errorf("use dimension %q: %s", name, why)
		}
	}
	if most := maxDimensions - maxLabels - 1; len(set) > most { // the one is InstanceId
		return fmt.Errorf("use dimension set %q: it has %d names, at most %d leave room for a sample's own",
			set, len(set), most)
	}
	return nil
}

// CheckValue returns why a value cannot be one of a dimension.
func CheckValue(s string) error {
	if why := badDimensionValue(s); why != "" {
		return fmt.Errorf("use dimension value %q: %s", s, why)
	}
	return nil
}

// sets are the configured sets and those that other settings add, each once: a repeated set would count twice.
func (c Config) sets() [][]string {
	all := slices.Clone(c.Dimensions)
	if c.Instance {
		for _, set := range c.Dimensions {
			all = append(all, append(slices.Clone(set), "InstanceId"))
		}
	}
	if c.Namespace == CWAgentNamespace {
		all = append(all, []string{"InstanceId"})
	}
	var sets [][]string
	seen := map[string]bool{}
	for _, set := range all {
		set = slices.Compact(slices.Sorted(slices.Values(set)))
		if key := strings.Join(set, "\x00"); !seen[key] {
			seen[key] = true
			sets = append(sets, set)
		}
	}
	return sets
}

// Add takes one batch of samples into the interval of its timestamp. It keeps nothing of b's but its labels.
func (p *Publisher) Add(b collectors.Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range b.Samples {
		if p.config.Skip != nil && p.config.Skip(s) {
			continue
		}
		if why := p.aggregate.add(b.At, s); why != "" {
			p.dropLocked(why, 1)
		}
	}
}

// Preview returns what would be sent if the interval ended now; just after a publish, what that one sent.
func (p *Publisher) Preview() Payload {
	sets := p.lookUpDimensions()
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.aggregate.newest(); w != nil && w.samples > 0 {
		return Payload{p.config.Namespace, datums(w, sets)}
	}
	return p.last
}

// lookUpDimensions returns the dimension sets with their current values, without those that have an unknown one. It
// may take as long as Config.Dimension: call it without p.mu.
func (p *Publisher) lookUpDimensions() (known []dimensions) {
	values, unknown := map[string]string{}, []string(nil)
	for _, set := range p.sets {
		ds := make(dimensions, 0, len(set))
		for _, name := range set {
			v, asked := values[name]
			if !asked {
				v = clean(p.config.Dimension(name))
				values[name] = v
			}
			switch {
			case badDimensionValue(v) == "":
				ds = append(ds, dimension{name, v})
			case !asked:
				unknown = append(unknown, name)
			}
		}
		if len(ds) == len(set) {
			known = append(known, ds)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unknown = unknown
	return known
}
