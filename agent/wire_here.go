package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/cli"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
)

// between two looks lies the time over which a rate is taken.
const between = time.Second

// hereMetrics collects in a verb's own process, for when no agent runs: with the
// same collectors and the same folding, and without sending anything.
type hereMetrics struct {
	metricsParts
	config cloudwatch.Config
}

func newHereMetrics(ctx context.Context, cfg config.Config) cli.MetricsCollector {
	var imds platform.IMDS
	if aws, err := newAWS(cfg); err == nil {
		imds = aws
	}
	inst := platform.NewInstance(ctx, platformOptions(cfg, imds))
	a := app.New(appConfig(cfg), inst)
	env := a.Env()
	h := &hereMetrics{config: publisherConfig(cfg, inst, env)}
	h.config.Send = cloudwatch.Off
	h.gather(cfg, func() place { return findWeb(a) }, collectors.NewOOM(collectors.OOMConfig{}))
	if cfg.Metrics.PerInstance || cfg.Metrics.CWAgent || slices.ContainsFunc(cfg.Metrics.Dimensions, func(set []string) bool { return slices.Contains(set, "InstanceId") }) {
		go inst.Run(ctx, slog.New(slog.DiscardHandler)) // ends with the verb
		inst.Await(ctx, 3*time.Second, func(f platform.Facts) bool { return f.InstanceID != "" || !f.EC2 })
	}
	return h
}

// look collects twice, since the first look has no rates, and takes the second,
// alone: nobody closes an interval here.
func (h *hereMetrics) look(ctx context.Context) (b collectors.Batch, err error) {
	if h.publisher, err = cloudwatch.New(h.config); err != nil {
		return b, err
	}
	h.loop.Gather(ctx, time.Now())
	select {
	case <-ctx.Done():
		return b, context.Cause(ctx)
	case <-time.After(between):
	}
	b = h.loop.Gather(ctx, time.Now())
	h.publisher.Add(b)
	return b, ctx.Err()
}

// Payload is what one publish would send, without what only a running agent knows.
func (h *hereMetrics) Payload(ctx context.Context, notes io.Writer) (cloudwatch.Payload, error) {
	b, err := h.look(ctx)
	if err != nil {
		return cloudwatch.Payload{}, err
	}
	for _, r := range b.Results {
		if r.Err != nil && !errors.Is(r.Err, collectors.ErrNoData) {
			fmt.Fprintf(notes, "note: %s: %v\n", r.Collector, r.Err)
		}
	}
	return h.publisher.Preview(), nil
}

// Cost counts what only a running agent knows as well, as if jobs, the health
// check and the advice were in use: a price that turns out too low is no help.
func (h *hereMetrics) Cost(ctx context.Context, instances int) (cloudwatch.Cost, error) {
	b, err := h.look(ctx)
	if err != nil {
		return cloudwatch.Cost{}, err
	}
	more := healthSamples(nil, health.Figures{LastProbe: b.At})
	more = new(cronParts).counters(more)
	more = append(more, headroomSample(0), collectors.Sample{Name: "agent_memory_anon", Unit: collectors.Bytes})
	h.publisher.Add(collectors.Batch{At: b.At, Samples: more})
	return h.publisher.Cost(instances), nil
}
