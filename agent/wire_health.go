package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/platform"
)

func newHealth(cfg config.Config, inst *platform.Instance, env *appenv.Resolver, draining func(balancer bool) bool, log *slog.Logger) (*health.Checker, error) {
	expect, err := health.ParseExpect(cfg.Health.Expect)
	if err != nil {
		return nil, fmt.Errorf("health.expect: %w", err)
	}
	return health.New(health.Config{
		Target: cfg.Health.Target, Log: log,
		FindTarget: func(ctx context.Context) (string, error) {
			from, err := origin(ctx, cfg, inst, env)
			return from + cfg.Health.Path, err
		},
		Draining:  draining,
		NginxFile: filepath.Join(cfg.StateDir, "nginx-health.conf"),
		Host:      func(ctx context.Context) (string, error) { return healthHost(ctx, cfg, env) },
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

// origin is where the application itself listens, behind nginx, without a path:
// where health checks ask, by configuration; else where Beanstalk's Ruby platform
// has Puma listen, when it does; else the platform's port. With an error it is
// a guess.
func origin(ctx context.Context, cfg config.Config, inst *platform.Instance, env *appenv.Resolver) (string, error) {
	if t, err := endpoint.Parse(cfg.Health.Target); err == nil {
		return t.Origin(), nil
	}
	if info, err := os.Stat(pumaSocket); err == nil && info.Mode().Type() == fs.ModeSocket {
		return endpoint.Endpoint{Network: "unix", Address: pumaSocket}.Origin(), nil
	}
	port, err := appPort(ctx, inst, env)
	return "http://127.0.0.1:" + strconv.Itoa(port), err
}

// pumaSocket is what nginx asks on the Ruby platform, unless a Procfile says
// otherwise. The platform makes the directory, and Puma removes the socket when
// it ends.
const pumaSocket = "/var/run/puma/my_app.sock"

// appPort is where nginx sends requests; else PORT of the application's environment;
// else what the platform said when the agent started; else 8000, the Python
// platform's. With an error PORT is not known.
func appPort(ctx context.Context, inst *platform.Instance, env *appenv.Resolver) (int, error) {
	if p := inst.ProxyPort(); p != 0 {
		return p, nil
	}
	e, err := env.Resolve(ctx)
	if err == nil {
		v, _ := e.Lookup("PORT")
		if p, err := strconv.Atoi(v); err == nil && p > 0 && p < 1<<16 {
			return p, nil
		}
	}
	if p := inst.Facts().AppPort; p != 0 {
		return p, nil
	}
	return 8000, err
}

// healthHost is the Host that the application accepts: the configured one,
// with ${NAME} from the application's environment.
func healthHost(ctx context.Context, cfg config.Config, env *appenv.Resolver) (string, error) {
	if !strings.Contains(cfg.Health.Host, "${") {
		return cfg.Health.Host, nil
	}
	e, err := env.Resolve(ctx)
	if err != nil {
		return "", err
	}
	return firstHost(replaceReferences(cfg.Health.Host, func(name string) string { v, _ := e.Lookup(name); return v })), nil
}

// firstHost is the first entry that is one host of a list such as ALLOWED_HOSTS,
// in the forms that settings read from the environment have: a,b or a b or
// ["a", "b"]. A pattern (.example.com, *) is none.
func firstHost(list string) string {
	for _, h := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(", \t\n;", r) }) {
		h = strings.Trim(h, `"'()`)
		if !strings.Contains(h, ":") { // no IPv6 address
			h = strings.Trim(h, `[]"'`)
		}
		if h != "" && !strings.HasPrefix(h, ".") && endpoint.CheckHost(h) == nil {
			return h
		}
	}
	return ""
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
