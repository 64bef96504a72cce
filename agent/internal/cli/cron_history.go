package cli

import (
	"cmp"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/runs"
)

func newCronHistoryCmd(g *globals) *cobra.Command {
	o := psOptions{kind: "cron", all: true}
	c := &cobra.Command{Use: "history [NAME]", Args: cobra.MaximumNArgs(1),
		Short: "past runs of the jobs on this instance, newest first",
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(c); err != nil {
				return misuse(err)
			}
			if len(args) > 0 {
				o.name = args[0]
			}
			list, err := o.list(c, g)
			switch {
			case err != nil:
				return err
			case o.json:
				return printJSON(g.Out, list)
			}
			return printPast(g, list)
		}}
	c.Flags().IntVarP(&o.n, "number", "n", 50, "how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func printPast(g *globals, list []runs.Run) error {
	if len(list) == 0 {
		printf(g.Err, "no runs are kept\n")
		return nil
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.ID, r.Name, startOf(r), tookOf(r), runs.Describe(r),
			megabytes(r.PeakMemory), cmp.Or(r.Meta[runs.MetaHost], "-"), r.Reason})
	}
	return table(g.Out, []string{"ID", "JOB", "STARTED", "TOOK", "STATE", "PEAK", "HOST", "WHY"}, rows)
}
