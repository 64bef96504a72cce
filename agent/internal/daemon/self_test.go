package daemon

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
)

// The watchdog's question looks at nothing of the application's: whatever that makes slow, systemd does not end the
// agent for it. Neither the application nor the supervisor can be asked here.
func TestWatchdogAsksNothingOfTheApplication(t *testing.T) {
	cfg := config.Default()
	cfg.StateDir, cfg.App.Dir = t.TempDir(), t.TempDir()
	cfg.Socket = cfg.StateDir + "/agent.sock"
	log := slog.New(slog.DiscardHandler)
	a := app.New(appConfig(cfg), platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: cfg.App.Dir}))
	aws, err := newAWS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := common{cfg: cfg, app: a, aws: aws, runs: &runs.Client{}, log: log}
	cron, err := m.cron(nil, time.Now, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	c := healthConfig(cfg)
	c.Host = func(context.Context) (string, error) { t.Error("the host is looked up"); return "", nil }
	c.Process = func(context.Context) (p health.Process, ok bool) { t.Error("processes are looked at"); return p, false }
	c.FindTarget = func(context.Context) (string, error) { t.Error("it is looked for"); return "", nil }
	c.Log = log
	check, err := health.New(c)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Metrics.Send = "off"
	figures, err := metrics.New(metricsConfig(cfg), a)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{app: nil, runs: nil, cron: cron, check: check, drain: drain.New(drain.Config{Log: log}), metrics: figures,
		callers: &callers{}}
	if s := b.Status(t.Context(), true); !s.Ready || len(s.Lines) != 0 {
		t.Errorf("got %+v", s)
	}
}
