package cli

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// newSuperviseCmd is what agent-runs.service runs; it is not for a shell. Its rules come from flags, in a unit that
// root owns, and from nowhere else.
func newSuperviseCmd(g *globals) *cobra.Command {
	o := SuperviseOptions{Log: g.Err}
	c := &cobra.Command{Use: "supervise", Hidden: true, Short: "the parent of every run", Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM)
			defer stop()
			return g.Supervise(ctx, o)
		}}
	f := c.Flags()
	f.StringVar(&o.Socket, "socket", "", "where the agent finds this process")
	f.StringVar(&o.StateDir, "state", "", "where runs are kept")
	f.StringArrayVar(&o.AllowUsers, "allow-user", nil, "a user that runs may have; * for all but root")
	f.StringArrayVar(&o.AllowGroups, "allow-group", nil, "a group that runs may have beside their user's own")
	f.BoolVar(&o.AllowRoot, "allow-root", os.Geteuid() != 0, "runs may be root's")
	f.DurationVar(&o.IdleExit, "idle-exit", 0, "end after so long without agent and runs")
	return c
}
