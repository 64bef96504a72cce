package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newStatusCmd(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "one screen: what runs, what was found, what is wrong and what to do",
		Long: `Prints what the running agent found, what it does, and what is wrong with what
to do about it.

Exit status: 0 when the agent answers and is ready, whatever it shows; 1 when
none answers within 3 seconds (it is down or hung: stderr says which) or it is
not ready. A busy agent is waited for, with a note, for up to 30 seconds. Whether
the application is well, agent health says.`,
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var s api.Status
			err := g.get(c.Context(), "/v1/status", &s)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(g.Out, "status", s)
			} else {
				printStatus(g.Out, s)
			}
			if err == nil && !s.Ready {
				return exitWith(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

var stateColour = map[api.State]int{api.Good: 32, api.Note: 2, api.Warn: 33, api.Bad: 31}

func printStatus(f *os.File, s api.Status) {
	printf(f, "agent %s, pid %d, up %s\n\n", s.Version, s.PID, ago(s.Started))
	for _, l := range s.Lines {
		printf(f, "%s  %-12s %s\n", paint(f, stateColour[l.State], fmt.Sprintf("%-4s", l.State)), l.What, l.Text)
		if l.Hint != "" {
			printf(f, "      %-12s %s\n", "", paint(f, 2, "→ "+l.Hint))
		}
	}
}
