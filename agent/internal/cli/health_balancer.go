package cli

import (
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
)

// asLoadBalancer prints what each kind of load balancer would see; exit 1 when
// it is not safe to point the environment's health check at the agent.
func asLoadBalancer(c *cobra.Command, g *globals, cl *api.Client, asJSON bool) error {
	var r struct {
		health.Report
		Draining []drain.Reason `json:"draining,omitempty"`
	}
	if err := cl.Get(c.Context(), "/v1/health/as-load-balancer", &r); err != nil {
		return err
	}
	if asJSON {
		if err := printJSON(g.Out, "health --as-load-balancer", r); err != nil {
			return err
		}
	} else {
		for _, a := range r.Asks {
			printf(g.Out, "%-16s Host %-20s %s in %.1f ms  %s\n",
				a.As, a.Host, statusWord(a.Status), a.LatencyMS, a.Fault)
		}
		printf(g.Out, "application: %s\n", verdict{Verdict: r.Verdict})
		for _, d := range r.Draining {
			printf(g.Out, "draining since %s: %s\n", d.Since.Local().Format(time.DateTime), d.Reason)
		}
		if r.Advice != "" {
			printf(g.Out, "advice: %s\n", r.Advice)
		}
		printf(g.Out, "safe to set the health check path to %s: %v\n", r.Path, r.Safe)
	}
	if !r.Safe {
		return exitWith(1)
	}
	return nil
}
