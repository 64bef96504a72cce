package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func newHoldCmd(g *globals) *cobra.Command {
	var limit time.Duration
	c := post(g, "hold", "start no cron job until release, or until a limit has passed (a deployment does this)",
		func() string { return "/v1/hold?limit=" + limit.String() })
	c.Flags().DurationVar(&limit, "limit", 15*time.Minute, "after this the jobs start again by themselves")
	return c
}

func newReleaseCmd(g *globals) *cobra.Command {
	return post(g, "release", "start cron jobs again; what came due meanwhile runs once",
		func() string { return "/v1/release" })
}
