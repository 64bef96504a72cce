package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/capacity"
)

func newCapacityCmd(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "capacity", Short: "how many workers fit on this instance, from what they cost; advice only", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			var a capacity.Advice
			if err := cl.Get(c.Context(), "/v1/capacity", &a); err != nil {
				return err
			}
			if asJSON {
				return printJSON(g.out, a)
			}
			_, err = fmt.Fprint(g.out, a.Text())
			return err
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
