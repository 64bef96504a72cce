package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newStopCmd(g *globals) *cobra.Command {
	var req api.StopRequest
	c := &cobra.Command{Use: "stop ID", Short: "end a run and everything it started: TERM, grace, KILL", Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			return cl.Post(c.Context(), api.Path("runs", args[0], "stop"), req, nil)
		}}
	c.Flags().DurationVar(&req.Grace, "grace", 0, "between TERM and KILL (default: the run's own, 5s)")
	return c
}
