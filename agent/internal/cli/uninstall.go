package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/packaging"
)

// newUninstallCmd is "agent uninstall".
func newUninstallCmd(g *globals) *cobra.Command {
	var o packaging.Options
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "take the agent off this host, with everything it wrote",
		Long: `Stop the agent and every run it started, and remove its binary, link, units,
sockets, state and configuration. Doing it again changes nothing.

Exit codes: 0 done, or nothing to do; 1 something is left; 2 misuse.`,
		Example: `  sudo agent uninstall --keep-data`,
		Args:    arguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := packaging.Uninstall(cmd.Context(), o)
			return printReport(cmd, report, asJSON, err)
		},
	}
	cmd.Flags().StringVar(&o.Root, "root", "", "put `DIR` before every path, and stop nothing")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would be done")
	cmd.Flags().BoolVar(&o.KeepData, "keep-data", false, "leave /etc/agent and /var/lib/agent")
	cmd.Flags().BoolVar(&o.KeepBinary, "keep-binary", false, "leave the binary, for a package manager to remove")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
