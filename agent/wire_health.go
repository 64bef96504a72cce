package main

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/health"
)

// healthConfig is the part of it that a file says.
func healthConfig(cfg config.Config) health.Config {
	return health.Config{
		Target: cfg.Health.Target, HostSetting: cfg.Health.Host, NginxFile: filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Headers: cfg.Health.Headers, Method: cfg.Health.Method, Expect: cfg.Health.Expect, Path: cfg.Health.Path,
		Timeout: cfg.Health.Timeout, Grace: cfg.Health.Grace, Failures: cfg.Health.Failures,
		UnknownHealthy: cfg.Health.Unknown == "healthy",
	}
}

func newHealth(cfg config.Config, a *app.App, draining func(balancer bool) bool, log *slog.Logger) (*health.Checker, error) {
	c := healthConfig(cfg)
	c.FindTarget, c.Host, c.Draining, c.Log = a.Page, a.Host, draining, log
	return health.New(c)
}

// healthFaults reports, with its line, what newHealth would refuse, or only a probe would find.
func healthFaults(cfg config.Config, fault func(key, format string, a ...any)) {
	c := healthConfig(cfg)
	c.FindTarget = func(context.Context) (string, error) { return "", nil }
	c.Check(fault)
}

// privateIP is the address that a load balancer uses: that of the interface
// that leads out. Nothing is sent.
func privateIP() string {
	c, err := net.Dial("udp", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return "127.0.0.1"
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.String()
}
