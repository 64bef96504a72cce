package health

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

// While the agent is down nginx asks the application itself, at the address and with the Host that the agent writes to
// a file. The nginx snippet includes that file, if it exists, when nginx starts, which it does in every deployment.

// maxSearch is how long Serve looks for a Host that the environment does not have yet. A first deployment, the only one
// of most instances, writes the environment and starts nginx a second later: the first probe would be too late.
const maxSearch = 15 * time.Minute

// keepFallbackEarly writes the fallback as soon as its values are known. It looks often while they are unknown, before
// the first deployment, and rarely where there is no Host so far. It spends at most a fiftieth of the time.
func (c *Checker) keepFallbackEarly(ctx context.Context) {
	if c.cfg.NginxFile == "" || c.cfg.Host == nil {
		return
	}
	for start := time.Now(); ctx.Err() == nil && time.Since(start) < maxSearch; {
		asked := time.Now()
		if c.KeepFallback(ctx) {
			return
		}
		pause := time.Second
		if c.hostNeverKnown() {
			pause = 100 * time.Millisecond
		}
		sleep(ctx, max(pause, 50*time.Since(asked)))
	}
}

// KeepFallback writes the fallback with the current values and reports whether it has a Host. Each probe does the same.
func (c *Checker) KeepFallback(ctx context.Context) (complete bool) {
	host := c.configuredHost(ctx)
	if p, err := c.currentProber(ctx); err == nil {
		c.keepFallback(host, p.target)
		return host != ""
	}
	return false
}

// hostNeverKnown reports whether the Host has never been resolved, successfully or to none.
func (c *Checker) hostNeverKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hostErr != nil
}

// keepFallback writes NginxFile if host, which may be "", or t changed since it was last written. An
// unknown value never replaces a known one.
func (c *Checker) keepFallback(host string, t endpoint.Endpoint) {
	if c.hostNeverKnown() {
		return
	}
	text := fallback(host, t)
	c.fallbackMu.Lock()
	defer c.fallbackMu.Unlock()
	if c.cfg.NginxFile == "" || text == "" || text == c.fallback {
		return
	}
	if old, err := os.ReadFile(c.cfg.NginxFile); err != nil || string(old) != text {
		if err := replaceFile(c.cfg.NginxFile, []byte(text)); err != nil {
			c.log.Warn("nginx will not know how to ask the application while the agent is down", "err", err)
			return
		}
	}
	c.fallback = text
}

// plainPath needs no quoting in nginx's configuration.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._~-]+$`)

// fallback is the file's text, without a Host if there is none, or "" when a value has a character with
// a meaning for nginx.
func fallback(host string, t endpoint.Endpoint) string {
	app := strings.Replace(t.Address, "localhost:", "127.0.0.1:", 1)
	if _, err := netip.ParseAddrPort(app); t.Network == "tcp" && err != nil {
		return "" // nginx resolves no name in a variable
	}
	if t.Network == "unix" {
		app = "unix:" + t.Address + ":"
	}
	path := t.Page()
	plain := plainPath.MatchString(path) &&
		plainPath.MatchString(strings.NewReplacer(":", "", "[", "", "]", "").Replace(app))
	if !plain || host != "" && endpoint.CheckHost(host) != nil {
		return ""
	}
	text := "# Kept by the agent: how nginx asks the application while the agent is down.\n" +
		fmt.Sprintf("set $agent_health_app \"%s\";\nset $agent_health_path \"%s\";\n", app, path)
	if host != "" {
		text += fmt.Sprintf("set $agent_health_host \"%s\";\n", host)
	}
	return text
}

// replaceFile writes path in one step, readable by root alone.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
