package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// group is a verb that only has others below it: alone it lists them, with an unknown one it is misuse.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
		}
		return nil
	}, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(subs...)
	return c
}

// oneID takes one argument, which names something: an empty one would ask another route.
func oneID(c *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(c, args); err != nil {
		return err
	}
	if args[0] == "" {
		return errors.New("an empty id")
	}
	return nil
}
