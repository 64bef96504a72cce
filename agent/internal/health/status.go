package health

import (
	"cmp"
	"context"

	"beanstalk-agent/agent/internal/api"
)

// Status says who may ask for the verdict, and what the application answers now; with probe false neither it nor
// anything of it is looked at.
func (c *Checker) Status(ctx context.Context, probe bool) []api.Line {
	lines := c.floods.lines()
	where := ""
	port, socket := c.listening()
	switch {
	case port.err != nil && socket.addr != "":
		hint := "sudo ss -ltnp names who has it; " + askAt(socket.addr)
		lines = append(lines, api.NewLine("health", api.Warn, hint,
			"an nginx snippet from before would ask somebody else: %v", port.err))
	case port.err != nil:
		hint := "stop what holds it (sudo ss -ltnp names it), or set health.listen"
		lines = append(lines, api.NewLine("health", api.Bad, hint, "not listening: %v", port.err))
	}
	if socket.err != nil {
		hint := "meanwhile nginx asks the application itself"
		lines = append(lines, api.NewLine("health", api.Bad, hint, "not listening: %v", socket.err))
	}
	if asked := cmp.Or(socket.addr, port.addr); asked != "" {
		where = " (load balancers ask " + asked + ")"
	}
	if !probe {
		return lines
	}
	if _, worker := c.cfg.Process(ctx); c.cfg.Host != nil && !worker {
		if host, err := c.cfg.Host(ctx); host == "" && err == nil {
			lines = append(lines, c.noHost())
		}
	}
	v := c.Check(ctx)
	state := api.Good
	if !v.Healthy {
		state = api.Warn
	}
	if v.Target != "" { // not the Host: that is a value of the environment, and a status is shown to others
		where = " (asked " + v.Target + ")" + where
	}
	return append(lines,
		api.NewLine("health", state, "", "%d in %.1f ms: %s%s", v.Status, v.LatencyMS, v.Reason, where))
}

func (c *Checker) noHost() api.Line {
	text := "no host configured"
	if c.cfg.HostSetting != "" {
		text = c.cfg.HostSetting + " gives no host name"
	}
	hint := "set health.host, or HEALTH_HOST in the application's environment, to a host the application accepts"
	return api.NewLine("health", api.Note, hint,
		"%s: a load balancer's own is passed on, requests by name get the last answer", text)
}
