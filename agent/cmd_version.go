package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set at link time for releases: -ldflags "-X main.Version=1.2.3".
var Version string

// version is the release, else the commit the binary was built from.
func version() string {
	if Version != "" {
		return Version
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "0-" + s.Value[:12]
			}
		}
	}
	return "0-unknown"
}

func newVersionCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "the version of this binary", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(g.out, "agent %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		}}
}
