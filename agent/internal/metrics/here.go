package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
)

// betweenSamples is the time over which [Here] takes a rate.
const betweenSamples = time.Second

// Here collects in the caller's own process, for when no agent runs: with the same collectors, dimensions and
// aggregation as a running agent's, and without sending anything.
type Here struct {
	pipeline  Metrics
	publisher cloudwatch.Config
	counters  []Counter
}

// NewHere builds the collectors. Where a dimension needs it, it waits up to three seconds for the instance's id.
func NewHere(ctx context.Context, cfg Config, a *app.App) *Here {
	h := &Here{pipeline: Metrics{app: a}, publisher: publisherConfig(cfg, a), counters: cfg.Counters}
	h.publisher.Send = cloudwatch.Off
	h.pipeline.collect(cfg, collectors.NewOOM(collectors.OOMConfig{}))
	has := func(name string) bool {
		return slices.ContainsFunc(cfg.Dimensions, func(set []string) bool { return slices.Contains(set, name) })
	}
	image := has("InstanceType") || has("ImageId")
	if cfg.PerInstance || cfg.CWAgent || has("InstanceId") || image {
		go a.Instance().Run(ctx, slog.New(slog.DiscardHandler)) // ends with ctx
		a.Instance().Await(ctx, 3*time.Second, func(f platform.Facts) bool {
			return f.InstanceID != "" && (!image || f.InstanceType != "") || !f.EC2
		})
	}
	return h
}

// sample collects twice, since the first sample has no rates, and adds the second alone to a new interval.
func (h *Here) sample(ctx context.Context) (*cloudwatch.Publisher, collectors.Batch, error) {
	p, err := cloudwatch.New(h.publisher)
	if err != nil {
		return nil, collectors.Batch{}, err
	}
	h.pipeline.sources.Gather(ctx, time.Now())
	select {
	case <-ctx.Done():
		return nil, collectors.Batch{}, context.Cause(ctx)
	case <-time.After(betweenSamples):
	}
	b := h.pipeline.sources.Gather(ctx, time.Now())
	p.Add(b)
	return p, b, ctx.Err()
}

// Payload samples and returns what one publish would send, without the counters of a running agent. A collector that
// failed gets a line in notes.
func (h *Here) Payload(ctx context.Context, notes io.Writer) (Payload, error) {
	p, b, err := h.sample(ctx)
	if err != nil {
		return Payload{}, err
	}
	for _, r := range b.Results {
		if r.Err != nil && !errors.Is(r.Err, collectors.ErrNoData) {
			fmt.Fprintf(notes, "note: %s: %v\n", r.Collector, r.Err)
		}
	}
	return Payload{p.Preview(), h.pipeline.disk.Fullest()}, nil
}

// Cost adds the series of a running agent, as if every counter and the advice were in use: a price that turns out too
// low is no help.
func (h *Here) Cost(ctx context.Context, instances int) (cloudwatch.Cost, error) {
	p, b, err := h.sample(ctx)
	if err != nil {
		return cloudwatch.Cost{}, err
	}
	more := []collectors.Sample{headroomSample(0), {Name: "agent_memory_anon", Unit: collectors.Bytes}}
	for _, c := range h.counters {
		more = c.Read(more)
	}
	p.Add(collectors.Batch{At: b.At, Samples: more})
	return p.Cost(instances), nil
}
