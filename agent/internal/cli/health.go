package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/health"
)

func newHealthCmd(g *globals) *cobra.Command {
	var asJSON, history, balancer bool
	c := &cobra.Command{
		Use:   "health",
		Short: "ask the application as the load balancer should: with the right Host",
		Long: `Asks the running agent whether the application is up: it asks the application's
own port with the configured Host and headers, or gives its answer of less than
a second ago. The reason says what to do.

With --as-load-balancer it asks through nginx, as an Application, a Network and a
Classic Load Balancer would, and tells whether the answer is the agent's and 200:
before the environment's health check is pointed here, and when a load balancer
says that an instance is unhealthy and the application seems well.

A drained instance's application is asked all the same, and a note says that load
balancers are answered 503.

Exit status: 0 when the application is healthy (or, as a load balancer, all would
be satisfied), 1 when it is not or no agent answers.`,
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			if balancer {
				return asLoadBalancer(c, g, cl, asJSON)
			}
			if history {
				var h []health.Result
				if err := cl.Get(c.Context(), "/v1/health/history", &h); err != nil {
					return err
				}
				return printHistory(g, h, asJSON)
			}
			var v verdict
			if err := cl.Get(c.Context(), "/v1/health", &v); err != nil {
				return err
			}
			if asJSON {
				err = printJSON(g.Out, "health", v)
			} else {
				printf(g.Out, "%s\n", v)
			}
			for _, d := range v.Draining {
				printf(g.Err, "note: load balancers are answered 503: %s\n", d.Reason)
			}
			if err == nil && !v.Healthy {
				return exitWith(1)
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&balancer, "as-load-balancer", false,
		"ask through nginx as a load balancer would: is it safe to point the check here?")
	f.BoolVar(&history, "history", false, "the last 50 results, newest last, and before them each change of a day")
	return c
}

// verdict is the agent's answer.
type verdict struct {
	health.Verdict
	Draining []drain.Reason `json:"draining,omitempty"`
}

func (v verdict) String() string {
	return outcome(v.Healthy, v.State == health.Unknown, v.Status, v.LatencyMS, v.Reason) + whoWasAsked(v.Verdict)
}

func whoWasAsked(v health.Verdict) string {
	if v.Target == "" {
		return ""
	}
	return fmt.Sprintf(" (asked %s, Host %s)", v.Target, v.Host)
}

func outcome(healthy, unknown bool, status int, ms float64, reason string) string {
	word := "unhealthy"
	switch {
	case healthy:
		word = "healthy"
	case unknown:
		word = "unknown"
	}
	return fmt.Sprintf("%s: %s in %.1f ms: %s", word, statusWord(status), ms, reason)
}

func statusWord(status int) string {
	if status == 0 {
		return "no answer"
	}
	return strconv.Itoa(status)
}

func printHistory(g *globals, h []health.Result, asJSON bool) error {
	if asJSON {
		return printJSON(g.Out, "health --history", h)
	}
	for _, r := range h {
		printf(g.Out, "%s  Host %s  %s\n", r.At.Local().Format(time.DateTime), r.Host,
			outcome(r.Healthy, r.Unknown, r.Status, r.LatencyMS, r.Reason))
	}
	return nil
}
