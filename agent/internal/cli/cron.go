package cli

import (
	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newCronCmd(g *globals) *cobra.Command {
	return group("cron", "the application's scheduled jobs",
		newCronListCmd(g), newCronNextCmd(g), newCronCheckCmd(g), newCronRunCmd(g), newCronHistoryCmd(g),
		cronSwitch(g, "pause", "start this job no more, until resume; kept over restarts"),
		cronSwitch(g, "resume", "start this job again"))
}

func cronSwitch(g *globals, verb, short string) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			return cl.Post(c.Context(), api.Path("cron", args[0], verb), nil, nil)
		}}
}
