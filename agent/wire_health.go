package main

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/health"
)

func newHealth(cfg config.Config, a *app.App, draining func(balancer bool) bool, log *slog.Logger) (*health.Checker, error) {
	expect, err := health.ParseExpect(cfg.Health.Expect)
	if err != nil {
		return nil, fmt.Errorf("health.expect: %w", err)
	}
	return health.New(health.Config{
		Target: cfg.Health.Target, FindTarget: a.Page, Log: log,
		Draining:  draining,
		NginxFile: filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Host:      a.Host,
		Headers:   cfg.Health.Headers, Method: cfg.Health.Method, Expect: expect, Path: cfg.Health.Path,
		Timeout: cfg.Health.Timeout, Grace: cfg.Health.Grace, Failures: cfg.Health.Failures,
		UnknownHealthy: cfg.Health.Unknown == "healthy",
	})
}

// healthFaults tells, with its line, what newHealth would refuse, or only a probe
// would find: an agent that does not start is a fault told too late.
func healthFaults(c config.Config, fault func(key, format string, a ...any)) {
	told := func(key string, err error) {
		if err != nil {
			fault(key, "%v", err)
		}
	}
	h := c.Health
	_, err := health.ParseExpect(h.Expect)
	told("health.expect", err)
	told("health.headers", health.CheckHeaders(h.Headers))
	if h.Host != "" && !strings.Contains(h.Host, "${") {
		told("health.host", endpoint.CheckHost(h.Host))
	}
	switch _, err := endpoint.Parse(h.Target); {
	case h.Target == "" || err == nil:
	case strings.Contains(h.Target, "@"): // which may be a password, so the value is not told
		fault("health.target", "expected an address without user and password: set health.headers")
	default:
		told("health.target", err)
	}
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
