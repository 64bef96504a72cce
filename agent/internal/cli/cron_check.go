package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/scheduler"
)

func newCronCheckCmd(g *globals) *cobra.Command {
	var zone string
	c := &cobra.Command{Use: "check FILE", Args: arguments,
		Short: "every fault of a cron file, each with its line; for use before a deploy",
		Long: `Exit status 0 when the file is good, 1 when it is not. A .yaml or .yml file is a
worker tier's cron.yaml with the agent's keys, anything else is a crontab.
Each fault is shown as FILE:LINE:COLUMN: …, then the line and a mark below it.`,
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := readCron(args[0], zone)
			if faults, ok := errors.AsType[scheduler.Faults](err); ok {
				for _, f := range faults {
					printFault(g.Err, "", f)
				}
				return exitWith(1)
			}
			if err != nil {
				return err
			}
			for _, w := range t.Warnings {
				printFault(g.Err, "note: ", w)
			}
			printf(g.Err, "%s: good, %s\n", filepath.Base(args[0]), api.Count(len(t.Jobs), "job"))
			return nil
		}}
	c.Flags().StringVar(&zone, "timezone", "UTC", "for jobs that name none")
	return c
}

// readCron parses a cron file that the command line names.
func readCron(file, zone string) (scheduler.Table, error) {
	loc, err := time.LoadLocation(zone)
	if err != nil {
		return scheduler.Table{}, misuse(fmt.Errorf("--timezone: %w", err))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return scheduler.Table{}, err
	}
	return scheduler.Parse(file, data, scheduler.ParseOptions{Location: loc})
}

// printFault shows a fault and its line. What is not shown as itself has one column: the mark stands below its place.
func printFault(w io.Writer, before string, f scheduler.Fault) {
	printf(w, "%s%s\n", before, f)
	excerpt := strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || !hidden(r) {
			return r
		}
		return utf8.RuneError
	}, f.Excerpt)
	for line := range strings.Lines(excerpt) {
		printf(w, "    %s\n", clean(strings.TrimSuffix(line, "\n")))
	}
}
