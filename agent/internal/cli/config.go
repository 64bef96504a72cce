package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/config"
)

func newConfigCmd(g *globals) *cobra.Command {
	return group("config", "the agent's own configuration", &cobra.Command{
		Use:   "check [FILE]",
		Short: "every fault of the configuration, each with its line; exit 1 when there is one",
		Args:  arguments,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				g.config = args[0]
			}
			if _, err := g.load(false); err != nil {
				return err
			}
			path := g.config
			if path == "" {
				path = config.DefaultPath
			}
			return printf(g.Err, "%s: good\n", path)
		},
	})
}
