package cli

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newCronRunCmd(g *globals) *cobra.Command {
	var raw, force bool
	c := &cobra.Command{Use: "run NAME", Short: "run a job now: its output here, its exit status passed on",
		Long: `The run goes on when this command is interrupted. Where one instance runs each
slot, it is refused while another instance runs the job, and when that cannot be
known; --force runs it all the same. A paused job, or one that is off here, runs.

Exit status: the job's own; 125 when the agent could not start it, or refused.`,
		Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt)
			defer stop()
			var r runs.Run
			path := api.Path("cron", args[0], "run")
			if force {
				path += "?force"
			}
			if err := cl.Post(ctx, path, nil, &r); err != nil {
				return exitIf(125, err)
			}
			out := g.output(raw)
			err = cl.Follow(ctx, r.ID, 0, patience, out)
			out.Close() // before what is said of the run's end
			if ctx.Err() != nil {
				printf(g.Err, "the run goes on: agent logs -f %s shows it, agent stop %[1]s ends it\n", r.ID)
				return exitWith(128 + int(syscall.SIGINT))
			}
			if err != nil {
				return exitIf(125, err)
			}
			return waitFor(ctx, g, cl, r.ID)
		}}
	c.Flags().BoolVar(&raw, "raw", false, rawHelp)
	c.Flags().BoolVar(&force, "force", false, "also beside another run of the job")
	return c
}
