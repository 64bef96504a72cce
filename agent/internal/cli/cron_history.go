package cli

import (
	"cmp"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

func newCronHistoryCmd(g *globals) *cobra.Command {
	o := psOptions{kind: "cron", all: true}
	here := false
	c := &cobra.Command{Use: "history [NAME]", Args: arguments,
		Short: "past runs of the jobs, newest first: this instance's, and the last of the others",
		Long: `Runs of this instance are kept by it, as agent ps --all shows them, with their
output (agent logs). Where one instance runs each slot, the last 16 runs of a job
on any instance are shown too, with the instance and the result, also of one that
has been replaced since. --here leaves those out.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := cmp.Or(o.check(c), notEmpty(args)); err != nil {
				return misuse(err)
			}
			if len(args) > 0 {
				o.name = args[0]
			}
			list, err := o.list(c, g)
			if err != nil {
				return err
			}
			past := pastOf(list)
			if !here {
				past = append(past, pastElsewhere(c, g, o.name)...)
			}
			slices.SortStableFunc(past, func(a, b pastRun) int { return b.at.Compare(a.at) })
			return printPast(g, past[:min(len(past), o.n)], o.json)
		}}
	c.Flags().IntVarP(&o.n, "number", "n", 50, "how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.Flags().BoolVar(&here, "here", false, "this instance's alone")
	return c
}

// pastRun is a row of the history.
type pastRun struct {
	at  time.Time
	run any // as JSON has it
	row []string
}

func pastOf(list []runs.Run) (past []pastRun) {
	for _, r := range list {
		row := []string{r.ID, r.Name, startOf(r), tookOf(r), runs.Describe(r), megabytes(r.PeakMemory),
			cmp.Or(r.Meta[runs.MetaHost], "-"), r.Reason}
		past = append(past, pastRun{r.Started, printedRun(r), row})
	}
	return past
}

// pastElsewhere are runs of other instances, as far as the claim store can be read: this instance's own are shown
// without it.
func pastElsewhere(c *cobra.Command, g *globals, job string) (past []pastRun) {
	var h api.CronHistory
	if err := g.get(c.Context(), "/v1/cron/history?"+url.Values{"job": {job}}.Encode(), &h); err != nil {
		printf(g.Err, "note: runs of other instances are not shown: %v\n", err)
		return nil
	}
	if h.Warning != "" {
		printf(g.Err, "note: %s\n", h.Warning)
	}
	if h.Unread > 0 {
		printf(g.Err, "note: of %s only this instance's runs are shown: the claim store was not asked, "+
			"or did not answer\n", api.Count(h.Unread, "job"))
	}
	for _, r := range h.Runs {
		took, why := "-", "slot "+r.Slot.UTC().Format("2006-01-02 15:04:05 MST")
		if r.Ended != nil {
			took = r.Ended.Sub(r.Started).Round(time.Second).String()
		}
		if r.Manual {
			why = "manual"
		}
		started := r.Started.Local().Format("01-02 15:04:05")
		how := cmp.Or(r.Outcome, "started, not ended")
		row := []string{"-", r.Job, started, took, how, "-", r.Host, why}
		past = append(past, pastRun{r.Started, printedElsewhere(r), row})
	}
	return past
}

func printPast(g *globals, past []pastRun, asJSON bool) error {
	if asJSON {
		list := []any{}
		for _, p := range past {
			list = append(list, p.run)
		}
		return printJSON(g.Out, "cron history", list)
	}
	if len(past) == 0 {
		printf(g.Err, "no runs are kept\n")
		return nil
	}
	var rows [][]string
	for _, p := range past {
		rows = append(rows, p.row)
	}
	return table(g.Out, []string{"ID", "JOB", "STARTED", "TOOK", "RESULT", "PEAK", "HOST", "REASON"}, rows)
}
