package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newCronRunCmd(g *globals) *cobra.Command {
	var raw bool
	c := &cobra.Command{Use: "run NAME", Short: "run a job now: its output here, its exit status passed on",
		Long: `The run goes on when this command is interrupted. Exit status: the job's own;
125 when the agent could not start it.`,
		Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			var r runs.Run
			if err := cl.Post(c.Context(), api.Path("cron", args[0], "run"), nil, &r); err != nil {
				return exitIf(125, err)
			}
			out := g.output(raw)
			err = cl.Follow(c.Context(), r.ID, 0, patience, out)
			out.Close() // before what is said of the run's end
			if err != nil {
				return exitIf(125, err)
			}
			return waitFor(c.Context(), g, cl, r.ID)
		}}
	c.Flags().BoolVar(&raw, "raw", false, rawHelp)
	return c
}
