package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func (o *envOptions) compare(c *cobra.Command, g *globals) error {
	path := "/v1/env/diff"
	if o.values {
		path += "?values"
	}
	var d api.EnvironmentDiff
	err := g.get(c.Context(), path, &d)
	if err != nil {
		return err
	}
	for _, u := range d.Unread {
		printf(g.Err, "note: not compared: %s\n", u)
	}
	if o.json {
		err = printJSON(g.Out, "env --diff", d)
	} else {
		printDiff(g.Out, d)
	}
	if err == nil && len(d.Differences) > 0 {
		return exitWith(1)
	}
	return err
}

func printDiff(w io.Writer, d api.EnvironmentDiff) {
	for _, v := range d.Differences {
		printf(w, "%-24s %s\n", v.Name, v.Kind)
		if v.Web != nil {
			printf(w, "  web process: %q\n", *v.Web)
		}
		if v.Here != nil {
			printf(w, "  a run now:   %q\n", *v.Here)
		}
	}
	printf(w, "%d the same, %d different (processes %s)\n",
		d.Same, len(d.Differences), strings.Trim(fmt.Sprint(d.PIDs), "[]"))
}
