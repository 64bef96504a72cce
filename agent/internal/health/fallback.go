package health

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
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
		host := c.configuredHost(ctx)
		if p, err := c.currentProber(ctx); err == nil && host != "" {
			c.keepFallback(host, p.target)
			return
		}
		pause := time.Second
		if c.neverTold() {
			pause = 100 * time.Millisecond
		}
		sleep(ctx, max(pause, 50*time.Since(asked)))
	}
}

// neverTold reports whether there was no answer yet, not even that there is no Host.
func (c *Checker) neverTold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hostErr != nil
}

// keepFallback writes NginxFile if host or t differ from what was written last. An unknown value
// never erases a known one: nginx keeps the last good one.
func (c *Checker) keepFallback(host string, t Target) {
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

// fallback is the file's text, or "" when a value has a character that could mean something to nginx.
func fallback(host string, t Target) string {
	app := t.Address
	if t.Network == "unix" {
		app = "unix:" + t.Address + ":"
	}
	path := t.page()
	if CheckHost(host) != nil || !plainPath.MatchString(path) || !plainPath.MatchString(strings.NewReplacer(":", "", "[", "", "]", "").Replace(app)) {
		return ""
	}
	return "# Kept by the agent: how nginx asks the application while the agent is down.\n" +
		fmt.Sprintf("set $agent_health_host \"%s\";\nset $agent_health_app \"%s\";\nset $agent_health_path \"%s\";\n", host, app, path)
}

// replaceFile writes path in one step, readable by root alone.
func replaceFile(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
