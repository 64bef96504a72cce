package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/session"
)

func newAttachCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "attach ID", Short: "take up a terminal session again", Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			conn, err := cl.Attach(c.Context(), args[0], g.size())
			if err != nil {
				return exitIf(125, err)
			}
			code, err := conn.Run(c.Context(), session.Options{Stdin: g.In, Stdout: g.Out, Stderr: g.Err})
			return exitIf(code, err)
		}}
}
