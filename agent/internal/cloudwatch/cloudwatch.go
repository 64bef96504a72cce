// Package cloudwatch delivers the figures of collectors to CloudWatch, or keeps them until it can.
//
// Samples of one interval are folded into one datum a series: its values and how often each occurred, so that
// percentiles work and extremes survive. When the interval is over, the datums are written to a spool on disk, sent,
// and deleted once CloudWatch has said yes. While it does not say yes the spool grows to a fixed size and then loses
// its oldest batches, counted. Timestamps are always those of the interval, never those of the sending.
//
// Delivery is at least once. PutMetricData has no idempotency key, so a batch whose answer was lost, or whose sender
// died before noting the answer, is sent again and its datums counted as possible duplicates. To know which those are,
// the SDK's own retries must be off, and a batch is marked on disk before its bytes leave.
//
// The present goes before the past: the newest batch is tried first, because alarms look at it; the backlog follows
// oldest first, because the oldest is what the spool would lose next, at one request a second, because a fleet that
// comes back from an outage shares 500 requests a second with everything else in the account.
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
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"beanstalk-agent/collectors"
)

// Mode says whether metrics leave the host.
type Mode string

// The modes. In Auto, as long as Connect fails, metrics stay in memory and are no one's loss: a laptop has no AWS.
const (
	On   Mode = "on"
	Off  Mode = "off"
	Auto Mode = "auto"
)

// CWAgentNamespace is the namespace of Amazon's own CloudWatch agent.
const CWAgentNamespace = "CWAgent"

// Config says what is sent, where to, and what is kept meanwhile.
type Config struct {
	// Required. Namespace of all metrics. With CWAgentNamespace the series also carry the dimension set that existing
	// dashboards, alarms and Compute Optimizer look for: InstanceId alone, as that agent's aggregation_dimensions.
	Namespace string

	// Required. Sets of dimension names; every series is published once for each set. A sample's own labels are
	// further dimensions of each.
	Dimensions [][]string

	// Required. Dimension returns the present value of a dimension, such as EnvironmentName, or "" when it is not
	// known; a set with an unknown value is left out, never sent in part. It is asked at every publish, because an
	// instance's Auto Scaling group changes during its life. It must not block.
	Dimension func(name string) string

	// Required unless Send is Off. Connect returns the client configuration once region and credentials are found.
	// It is asked again, at growing intervals, until it succeeds once. Its retries must be off.
	Connect func(context.Context) (aws.Config, error)

	// Required unless Send is Off. SpoolDir is made when missing, for its owner only. One publisher may use it.
	SpoolDir string

	// Optional.
	Interval   time.Duration                // one publish; 0: a minute. Should divide a day.
	Send       Mode                         // "": Auto
	Instance   bool                         // also publish each set with InstanceId added, per_instance in the configuration
	SpoolLimit int64                        // bytes on disk; 0: 16 MiB, most of a day of sixty series
	Skip       func(collectors.Sample) bool // reports samples that are not worth their price; nil: none
	Published  func()                       // called when Run comes to rest, about once an interval, to give memory back; nil: none
	Logger     *slog.Logger                 // nil: none
}

// Limits of the spool and of the time one thing may take.
const (
	defaultInterval = time.Minute
	defaultSpool    = 16 << 20
	flushLimit      = 5 * time.Second  // from the end of Run's context to its return
	requestLimit    = 15 * time.Second // one PutMetricData
)

// API is the part of the SDK's client that is used.
type API interface {
	PutMetricData(context.Context, *sdk.PutMetricDataInput, ...func(*sdk.Options)) (*sdk.PutMetricDataOutput, error)
}

// Publisher folds, keeps and sends. Add, Preview, Recent, Status and Cost are safe for concurrent use, also without
// Run; Run may be called once.
type Publisher struct {
	config Config
	sets   [][]string
	logger *slog.Logger
	pace   time.Duration // between two batches of a backlog

	mu     sync.Mutex // guards what follows
	fold   *fold
	recent Payload // of the last interval that was cut
	counts counts
	state  State
	said   State  // last logged
	reason string // why state is not Sending, as a sentence; "" when it is
	queue  spoolStats

	// Run's own.
	api         API
	credentials aws.CredentialsProvider // of api
	spool       *spool
	next        schedule
	flying      bool         // an answer is awaited
	answer      chan outcome // buffered for it
	spoiled     int          // datums set aside since the last delivery
}

// New checks c. It touches neither disk nor network. All faults are told at once.
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
	p := &Publisher{config: c, sets: c.sets(), logger: c.Logger, pace: defaultPace, state: Local, fold: newFold(c.Interval), answer: make(chan outcome, 1)}
	if c.Send == On {
		p.state = Waiting
	}
	return p, nil
}

func (c Config) check() error {
	var errs []error
	if why := badNamespace(c.Namespace); why != "" {
		errs = append(errs, fmt.Errorf("use namespace %q: %s", c.Namespace, why))
	}
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
		errs = append(errs, errors.New("publish metrics: at least one dimension set and its values are required, such as [[EnvironmentName]]"))
	}
	for _, set := range c.Dimensions {
		for _, name := range set {
			if why := badDimensionName(name); why != "" {
				errs = append(errs, fmt.Errorf("use dimension %q: %s", name, why))
			}
		}
		if most := maxDimensions - maxLabels - 1; len(set) > most { // the one is InstanceId
			errs = append(errs, fmt.Errorf("use dimension set %q: it has %d names, at most %d leave room for a sample's own", set, len(set), most))
		}
	}
	return errors.Join(errs...)
}

// sets are the configured ones and those that other settings ask for, each once: the same set twice would count twice.
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
		if why := p.fold.add(b.At, s); why != "" {
			p.dropLocked(why, 1)
		}
	}
}

// Preview returns what would be sent if the interval ended now; just after a publish, what that one had.
func (p *Publisher) Preview() Payload {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.fold.newest(); w != nil && w.samples > 0 {
		return Payload{p.config.Namespace, datums(w, p.resolve())}
	}
	return p.recent
}

// Recent returns what the last interval had, sent or not.
func (p *Publisher) Recent() Payload {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recent
}

// resolve gives the dimension sets their present values. A set with an unknown one is left out.
func (p *Publisher) resolve() []dimensions {
	var out []dimensions
	for _, set := range p.sets {
		ds := make(dimensions, 0, len(set))
		for _, name := range set {
			if v := clean(p.config.Dimension(name)); badDimensionValue(v) == "" {
				ds = append(ds, dimension{name, v})
			}
		}
		if len(ds) == len(set) {
			out = append(out, ds)
		}
	}
	return out
}
