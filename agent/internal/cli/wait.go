package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newWaitCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "wait ID|JOB", Short: "wait for a run to end; exit with its exit status", Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			id, err := running(c.Context(), cl, args[0])
			if err != nil {
				return exitIf(125, err)
			}
			return waitFor(c.Context(), g, cl, id)
		}}
}

// patience is how long a waiting verb asks on when the agent does not answer: a restart takes one second, an upgrade
// a few.
const patience = 30 * time.Second

// waitFor waits for a run and passes its exit status on.
func waitFor(ctx context.Context, g *globals, cl *api.Client, id string) error {
	var r runs.Run
	err := cl.Wait(ctx, patience, func(ctx context.Context) error {
		return cl.Get(ctx, api.Path("runs", id, "wait"), &r)
	})
	if err != nil {
		return exitIf(125, err)
	}
	if r.ExitCode != 0 {
		printf(g.Err, "%s %s: %s\n", r.Name, r.ID, runs.Describe(r))
	}
	return exitWith(r.ExitCode)
}
