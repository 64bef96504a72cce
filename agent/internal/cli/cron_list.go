package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
)

func newCronListCmd(g *globals) *cobra.Command {
	var asJSON, cost bool
	var o costOptions
	c := &cobra.Command{Use: "list", Short: "every job: when next, how the last run ended, what holds it",
		Long: `Asks the running agent. With --cost: what it costs in a month that instances
agree on who runs each slot. --cost --file needs no agent.`,
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if cost {
				return o.print(c, g, asJSON)
			}
			if o.file != "" {
				return misuse(errors.New("--file goes with --cost; see agent cron check, agent cron next --file"))
			}
			var t api.CronTable
			if err := g.get(c.Context(), "/v1/cron", &t); err != nil {
				return err
			}
			if asJSON {
				return printJSON(g.Out, "cron list", t)
			}
			for _, f := range t.Faults {
				printf(g.Err, "note: not taken: %s\n", f)
			}
			for _, w := range t.Warnings {
				printf(g.Err, "note: %s\n", w)
			}
			if t.Group != "" {
				printf(g.Err, "note: slots are shared with all environments of group %s\n", t.Group)
			}
			if t.Held != nil {
				until := t.Held.Format("2006-01-02 15:04:05 MST")
				printf(g.Err, "note: starts are held until %s, or agent release\n", until)
			}
			var rows [][]string
			for _, j := range t.Jobs {
				rows = append(rows, cronRow(j))
			}
			if len(rows) == 0 {
				printf(g.Err, "no jobs: %s is %s\n", t.File, t.State)
				return nil
			}
			return table(g.Out, []string{"JOB", "SCHEDULE", "NEXT", "LAST", "RESULT", "ON", "HOST", "NOTE"}, rows)
		}}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&cost, "cost", false, "S3 requests and dollars a month")
	f.IntVar(&o.instances, "instances", 10, "with --cost: how many instances the environment has")
	f.StringVar(&o.file, "file", "", "with --cost: read this cron `file`")
	f.StringVar(&o.zone, "timezone", "UTC", "with --file: for jobs that name none")
	return c
}

func cronRow(j api.CronJob) []string {
	when := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		if t.Second() != 0 { // of a job with seconds, or with a splay
			return t.Format("2006-01-02 15:04:05 MST")
		}
		return t.Format("2006-01-02 15:04 MST")
	}
	var notes []string
	count := func(n uint64, what, when string, at *time.Time) {
		if n > 0 && at != nil {
			what += when + at.Format(time.DateTime)
		}
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(j.Skipped, "skipped while running", ", each since ", j.Since)
	count(j.Missed, "missed", ", the last at ", j.MissedAt)
	if j.Note != "" {
		notes = append([]string{j.Note}, notes...)
	}
	return []string{j.Name, j.Schedule, when(j.Next), when(j.Last), j.Result, j.On, cmp.Or(j.Host, "-"),
		strings.Join(notes, "; ")}
}
