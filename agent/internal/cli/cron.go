package cli

import "github.com/spf13/cobra"

func newCronCmd(g *globals) *cobra.Command {
	return group("cron", "the application's scheduled jobs",
		newCronListCmd(g), newCronNextCmd(g), newCronCheckCmd(g), newCronRunCmd(g), newCronHistoryCmd(g),
		newCronPauseCmd(g), newCronResumeCmd(g))
}
