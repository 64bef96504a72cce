package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newLogsCmd(g *globals) *cobra.Command {
	var followIt, raw bool
	var lines int
	c := &cobra.Command{Use: "logs ID|JOB", Short: "the output of a run, or of a job's newest run", Args: oneID,
		RunE: func(c *cobra.Command, args []string) error {
			if lines < 0 {
				return misuse(fmt.Errorf("-n: expected 0 or more, have %d", lines))
			}
			cl, err := g.client()
			if err != nil {
				return err
			}
			id, err := newest(c.Context(), cl, args[0])
			if err != nil {
				return err
			}
			out := g.output(raw)
			defer out.Close()
			if followIt {
				return cl.Follow(c.Context(), id, lines, patience, out)
			}
			in, err := cl.Stream(c.Context(), fmt.Sprintf("%s?lines=%d", api.Path("runs", id, "output"), lines))
			if err != nil {
				return err
			}
			defer in.Close()
			_, err = io.Copy(out, in)
			return err
		}}
	c.Flags().IntVarP(&lines, "lines", "n", 0, "only the last so many lines (0: all)")
	c.Flags().BoolVar(&raw, "raw", false, rawHelp)
	c.Flags().BoolVarP(&followIt, "follow", "f", false, "go on until the run ends")
	return c
}

const rawHelp = "on a terminal, too, the bytes as they are; else colours are kept, and what a terminal obeys is escaped"

// newest returns the id of a run, or of a job's newest run. A name that looks like a command's id is not taken for that
// job: the record of that command may be gone, and the application chooses the names of its jobs.
func newest(ctx context.Context, cl *api.Client, name string) (string, error) {
	var r runs.Run
	err := cl.Get(ctx, api.Path("runs", name), &r)
	if err == nil {
		return r.ID, nil
	}
	var list []runs.Run
	if cl.Get(ctx, "/v1/runs?all=1&n=1&kind=cron&name="+url.QueryEscape(name), &list) != nil || len(list) == 0 {
		return "", err
	}
	if e, ok := errors.AsType[*api.Error](err); ok && runs.IsCommandID(name) {
		e.Hint = "of the job of this name the newest run is " + list[0].ID
		return "", e
	}
	return list[0].ID, nil
}
