package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/capacity"
)

func newCapacityCmd(g *globals) *cobra.Command {
	var asJSON bool
	var target int
	c := &cobra.Command{Use: "capacity", Args: arguments,
		Short: "how many workers fit on this instance, from what they cost; advice only",
		Long: `Does the sum that is done by hand otherwise: the memory that may be in use, less
what others use and what the workers share, divided by what the largest warm
worker has of its own. A worker is warm after ten minutes and a second of CPU.
Whether somebody waits for a worker is judged by the last quarter of an hour.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if target < 1 || target > 100 {
				return misuse(fmt.Errorf("--target %d: expected 1 to 100, percent of the memory", target))
			}
			var a capacity.Advice
			if err := g.get(c.Context(), fmt.Sprintf("/v1/capacity?target=%.2f", float64(target)/100), &a); err != nil {
				return err
			}
			if asJSON {
				return printJSON(g.Out, "capacity", a)
			}
			a.Print(func(format string, values ...any) { printf(g.Out, format, values...) })
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().IntVar(&target, "target", 60, "`percent` of the instance's memory that may be in use")
	return c
}
