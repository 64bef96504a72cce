package cli

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/packaging"
)

func newRunCmd(g *globals) *cobra.Command {
	var app string
	c := &cobra.Command{Use: "run", Short: "start the agent: metrics, cron, health checks, exec",
		Long: `Runs until SIGTERM or Ctrl-C. On Elastic Beanstalk it finds everything by
itself. Elsewhere it takes the application's directory from --app, its
environment from .env there, its jobs from cron.yaml there, and keeps metrics
here.

Exit status: 0 after an orderly stop; 1 when it cannot start, for example
because another agent holds the socket.`,
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if g.config == "" || g.config == packaging.ConfigPath {
				// without the note a deployment restarts the agent once too often, which is no reason not to start
				_ = packaging.NoteConfig(os.Getenv("RUNTIME_DIRECTORY"))
			}
			cfg, err := g.load(false)
			if err != nil {
				return err
			}
			return g.Run(c.Context(), RunOptions{Config: cfg, ConfigFile: cmp.Or(g.config, config.DefaultPath),
				Reload: func() (config.Config, error) { return g.load(false) },
				Socket: g.socket, App: app, Stderr: g.Err})
		}}
	c.Flags().StringVar(&app, "app", "", "the application's `directory` (default: found, else the current one)")
	return c
}
