package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/awsconf"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/collectors"
)

// metricsConfig translates; counters are those of other parts of the agent.
func metricsConfig(cfg config.Config, counters ...metrics.Counter) metrics.Config {
	m := cfg.Metrics
	c := metrics.Config{Namespace: m.Namespace, Dimensions: m.Dimensions, PerInstance: m.PerInstance, CWAgent: m.CWAgent,
		Interval: m.Interval, Sample: m.Sample, Send: m.Send, Counters: counters}
	for _, g := range m.Groups {
		c.Groups = append(c.Groups, metrics.Group(g))
	}
	return c
}

func counters(cron, health func([]collectors.Sample) []collectors.Sample) []metrics.Counter {
	return []metrics.Counter{{Name: "health", Read: health}, {Name: "cron", Read: cron}}
}

func newMetrics(cfg config.Config, a *app.App, aws *awsconf.AWS, check *health.Checker, jobs *cron.Cron,
	client *runs.Client, log *slog.Logger) (*metrics.Metrics, error) {
	c := metricsConfig(cfg, counters(jobs.Samples, check.Samples)...)
	c.Connect, c.SpoolDir, c.Log = aws.CloudWatch, filepath.Join(cfg.StateDir, "spool"), log
	c.RunName = func(ctx context.Context, id string) (string, error) {
		r, err := client.Get(ctx, id)
		return r.Kind + " " + r.Name, err
	}
	return metrics.New(c, a)
}
