package main

import (
	"context"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/platform"
)

func newHereMetrics(ctx context.Context, cfg config.Config) *metrics.Here {
	asked := health.Figures{LastProbe: time.Now()}
	c := metricsConfig(cfg, counters(cron.ZeroSamples, asked.Samples)...)
	var imds platform.IMDS
	if aws, err := newAWS(cfg); err == nil {
		imds = aws
	}
	return metrics.NewHere(ctx, c, app.New(appConfig(cfg), platform.NewInstance(ctx, platformOptions(cfg, imds))))
}
