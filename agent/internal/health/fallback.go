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

// While the agent is down nginx asks the application itself, and needs to know how. nginx reads its
// configuration when it starts, which Beanstalk has it do in every deployment; so the agent keeps
// what it knows in a file that the nginx snippet includes, if it is there.

// maxSearch is how long Serve looks for a Host that the environment does not have yet. A first
// deployment, the only one that most instances see, writes the environment and starts nginx a second
// later: probes would come too late.
const maxSearch = 15 * time.Minute

// keepFallbackEarly keeps the fallback as soon as its values are known: looked for often as long as
// they cannot be told, that is before the first deployment, and rarely where there is no Host so far.
// Looking takes at most a fiftieth of the time, whatever it costs.
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
		if c.neverTold() {
			pause = 100 * time.Millisecond
		}
		sleep(ctx, max(pause, 50*time.Since(asked)))
	}
}

// KeepFallback keeps what nginx needs, as it is now, and reports whether that is all there can be: a
// Host too. Each probe does the same.
func (c *Checker) KeepFallback(ctx context.Context) (whole bool) {
	host := c.configuredHost(ctx)
	if p, err := c.currentProber(ctx); err == nil {
		c.keepFallback(host, p.target)
		return host != ""
	}
	return false
}

// neverTold reports whether there was no answer yet, not even that there is no Host.
func (c *Checker) neverTold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hostErr != nil
}

// keepFallback writes NginxFile if host, which may be "", or t differ from what was written last. An
// unknown value never erases a known one: nginx keeps the last good one.
func (c *Checker) keepFallback(host string, t endpoint.Endpoint) {
	if c.neverTold() {
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

// plainPath is what can stand in nginx's configuration as it is.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._~-]+$`)

// fallback is the file's text, without a Host if there is none, or "" when a value has a character that
// could mean something to nginx.
func fallback(host string, t endpoint.Endpoint) string {
	app := strings.Replace(t.Address, "localhost:", "127.0.0.1:", 1)
	if _, err := netip.ParseAddrPort(app); t.Network == "tcp" && err != nil {
		return "" // nginx looks no name up in a variable
	}
	if t.Network == "unix" {
		app = "unix:" + t.Address + ":"
	}
	path := t.Page()
	if host != "" && endpoint.CheckHost(host) != nil || !plainPath.MatchString(path) || !plainPath.MatchString(strings.NewReplacer(":", "", "[", "", "]", "").Replace(app)) {
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
