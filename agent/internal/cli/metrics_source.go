package cli

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/metrics"
)

// metricsSource is the running agent, or this process.
type metricsSource struct {
	payload func(context.Context, io.Writer) (metrics.Payload, error)
	cost    func(ctx context.Context, instances int) (cloudwatch.Cost, error)
	every   time.Duration
}

// findMetrics returns the running agent, else a collector in this process.
func findMetrics(ctx context.Context, g *globals) (metricsSource, error) {
	cfg, err := g.load(true)
	if err != nil {
		return metricsSource{}, err
	}
	cl, err := g.client()
	if err != nil {
		return metricsSource{}, err
	}
	err = cl.Get(ctx, "/v1/metrics", nil)
	none, ok := errors.AsType[*api.Unreachable](err)
	if !ok {
		return metricsSource{every: cfg.Metrics.Sample,
			payload: func(ctx context.Context, _ io.Writer) (p metrics.Payload, err error) {
				err = cl.Get(ctx, "/v1/metrics", &p)
				return p, err
			},
			cost: func(ctx context.Context, n int) (c cloudwatch.Cost, err error) {
				err = cl.Get(ctx, "/v1/metrics/cost?instances="+strconv.Itoa(n), &c)
				return c, err
			}}, err
	}
	printf(g.Err, "note: collected here, without cron, health and the agent itself: no agent answers at %s (%v)\n",
		none.Socket, none.Cause)
	here := g.Metrics(ctx, cfg)
	return metricsSource{here.Payload, here.Cost, cfg.Metrics.Sample}, nil
}
