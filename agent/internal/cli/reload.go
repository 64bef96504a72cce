package cli

import (
	"github.com/spf13/cobra"
)

func newReloadCmd(g *globals) *cobra.Command {
	return post(g, "reload", "look at the application's tree, cron file and environment again now",
		func() string { return "/v1/reload" })
}

// post is a verb without an answer.
func post(g *globals, use, short string, path func() string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		cl, err := g.client()
		if err != nil {
			return err
		}
		return cl.Post(c.Context(), path(), nil, nil)
	}}
}
