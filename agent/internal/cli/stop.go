package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newStopCmd(g *globals) *cobra.Command {
	var req api.StopRequest
	c := &cobra.Command{Use: "stop ID|JOB", Args: oneID,
		Short: "end a run and everything it started: TERM, grace, KILL",
		RunE: func(c *cobra.Command, args []string) error {
			if err := runs.CheckGrace(uint32(os.Geteuid()), req.Grace); err != nil {
				return misuse(fmt.Errorf("--%w", err))
			}
			cl, err := g.client()
			if err != nil {
				return err
			}
			id, err := running(c.Context(), cl, args[0])
			if err != nil {
				return err
			}
			var r runs.Run
			if err := cl.Post(c.Context(), api.Path("runs", id, "stop"), req, &r); err != nil {
				return err
			}
			how := "is being ended: agent wait " + r.ID + " returns when it has"
			if !r.Live() {
				how = "is over: " + runs.Describe(r)
			}
			return printf(g.Err, "%s %s %s\n", r.Name, r.ID, how)
		}}
	c.Flags().DurationVar(&req.Grace, "grace", 0,
		"between TERM and KILL (default: the run's own, 5s); at most 10m but for root")
	return c
}
