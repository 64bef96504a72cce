package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
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
