package cli

import (
	"time"

	"github.com/spf13/cobra"
)

func newHoldCmd(g *globals) *cobra.Command {
	var limit time.Duration
	c := post(g, "hold", "start no cron job until release, or until a limit has passed (a deployment does this)",
		func() (path, done string) {
			until := time.Now().Add(limit).UTC().Format("2006-01-02 15:04:05 UTC")
			return "/v1/hold?limit=" + limit.String(), "no cron job starts here until " + until +
				", or until agent release; what comes due meanwhile runs once then"
		})
	c.Flags().DurationVar(&limit, "limit", 15*time.Minute, "after this the jobs start again by themselves")
	return c
}

func newReleaseCmd(g *globals) *cobra.Command {
	return post(g, "release", "start cron jobs again; what came due meanwhile runs once",
		func() (path, done string) {
			return "/v1/release", "cron jobs start here again; what came due meanwhile runs once"
		})
}
