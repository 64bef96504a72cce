package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/buildinfo"
)

func newVersionCmd(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "version", Short: "the version of this binary", Args: arguments,
		RunE: func(*cobra.Command, []string) error {
			v := api.PrintedVersion{Version: buildinfo.Version(), Go: runtime.Version(), OS: runtime.GOOS,
				Arch: runtime.GOARCH}
			if asJSON {
				return printJSON(g.Out, "version", v)
			}
			return printf(g.Out, "agent %s %s %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
