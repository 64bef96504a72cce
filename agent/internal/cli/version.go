package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/buildinfo"
)

func newVersionCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "the version of this binary", Args: arguments,
		RunE: func(*cobra.Command, []string) error {
			return printf(g.Out, "agent %s %s %s/%s\n",
				buildinfo.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		}}
}
