package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/scheduler"
)

func newCronCmd(g *globals) *cobra.Command {
	return group("cron", "the application's scheduled jobs",
		newCronListCmd(g), newCronNextCmd(g), newCronCheckCmd(g), newCronRunCmd(g), newCronHistoryCmd(g),
		cronSwitch(g, "pause", "start this job no more, until resume; kept over restarts"),
		cronSwitch(g, "resume", "start this job again"))
}

func newCronListCmd(g *globals) *cobra.Command {
	var asJSON, cost bool
	var o costOptions
	c := &cobra.Command{Use: "list", Short: "every job: when next, how the last run ended, what holds it",
		Long: `Asks the running agent. With --cost: what it costs in a month that instances
agree on who runs each slot. --cost --file needs no agent.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if cost {
				return o.print(c, g, asJSON)
			}
			if o.file != "" {
				return misuse(errors.New("--file is for --cost; to look at a file: agent cron check, agent cron next --file"))
			}
			cl, err := g.client()
			if err != nil {
				return err
			}
			var t api.CronTable
			if err := cl.Get(c.Context(), "/v1/cron", &t); err != nil {
				return err
			}
			if asJSON {
				return printJSON(g.out, t)
			}
			for _, f := range t.Faults {
				fmt.Fprintln(g.err, "note: not taken:", f)
			}
			for _, w := range t.Warnings {
				fmt.Fprintln(g.err, "note:", w)
			}
			if t.Held != nil {
				fmt.Fprintf(g.err, "note: starts are held until %s, or agent release\n", t.Held.Format(time.TimeOnly))
			}
			var rows [][]string
			for _, j := range t.Jobs {
				rows = append(rows, cronRow(j))
			}
			if len(rows) == 0 {
				fmt.Fprintf(g.err, "no jobs: %s is %s\n", t.File, t.State)
				return nil
			}
			return table(g.out, []string{"JOB", "SCHEDULE", "NEXT", "LAST", "RESULT", "ON", "HOST", "NOTE"}, rows)
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
	return []string{j.Name, j.Schedule, when(j.Next), when(j.Last), j.Result, j.On, cmp.Or(j.Host, "-"), strings.Join(notes, "; ")}
}

type nextOptions struct {
	file, from, job, zone string
	n                     int
	json                  bool
}

func newCronNextCmd(g *globals) *cobra.Command {
	var o nextOptions
	c := &cobra.Command{Use: "next", Short: "when jobs are due, daylight saving explained",
		Long: `Asks the running agent, or with --file reads a cron file: no agent is needed.
Times carry the offset of the job's own zone.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := o.upcoming(c, g)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(g.out, list)
			}
			var rows [][]string
			for _, n := range list {
				rows = append(rows, []string{n.At, n.Job, n.Note})
			}
			return table(g.out, []string{"AT", "JOB", "NOTE"}, rows)
		}}
	c.Flags().StringVar(&o.file, "file", "", "read this cron `file`")
	c.Flags().StringVar(&o.from, "from", "", "from this `time` (RFC 3339; default: now)")
	c.Flags().StringVar(&o.job, "job", "", "only this job")
	c.Flags().StringVar(&o.zone, "timezone", "UTC", "with --file: for jobs that name none")
	c.Flags().IntVarP(&o.n, "number", "n", 10, "how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func (o *nextOptions) upcoming(c *cobra.Command, g *globals) ([]api.Occurrence, error) {
	if o.n < 1 || o.n > api.MaxNext {
		return nil, misuse(fmt.Errorf("-n: expected 1 to %d, have %d", api.MaxNext, o.n))
	}
	from := time.Now()
	if o.from != "" {
		var err error
		if from, err = time.Parse(time.RFC3339, o.from); err != nil {
			return nil, misuse(fmt.Errorf("--from: expected a time such as 2027-03-28T00:00:00+01:00, have %q", o.from))
		}
	}
	if o.file != "" {
		t, err := readCron(o.file, o.zone)
		if err != nil {
			return nil, err
		}
		return cron.Occurrences(t, from, o.n, o.job)
	}
	cl, err := g.client()
	if err != nil {
		return nil, err
	}
	q := url.Values{"from": {from.Format(time.RFC3339Nano)}, "n": {strconv.Itoa(o.n)}, "job": {o.job}}
	var list []api.Occurrence
	return list, cl.Get(c.Context(), "/v1/cron/next?"+q.Encode(), &list)
}

// readCron parses a cron file that a person named.
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

func newCronCheckCmd(g *globals) *cobra.Command {
	var zone string
	c := &cobra.Command{Use: "check FILE", Short: "every fault of a cron file, each with its line; for use before a deploy",
		Long: `Exit status 0 when the file is good, 1 when it is not. A .yaml or .yml file is a
worker tier's cron.yaml with the agent's keys, anything else is a crontab.
Each fault is told as FILE:LINE:COLUMN: …, then the line and a mark below it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := readCron(args[0], zone)
			if faults, ok := errors.AsType[scheduler.Faults](err); ok {
				for _, f := range faults {
					printFault(g.err, "", f)
				}
				return exitWith(1)
			}
			if err != nil {
				return err
			}
			for _, w := range t.Warnings {
				printFault(g.err, "note: ", w)
			}
			fmt.Fprintf(g.err, "%s: good, %s\n", filepath.Base(args[0]), api.Count(len(t.Jobs), "job"))
			return nil
		}}
	c.Flags().StringVar(&zone, "timezone", "UTC", "for jobs that name none")
	return c
}

// printFault shows a fault and the line it is in, to whoever named the file;
// what a terminal would obey is shown as unknown.
func printFault(w io.Writer, before string, f scheduler.Fault) {
	fmt.Fprintf(w, "%s%s\n", before, f)
	shown := strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, f.Excerpt)
	for line := range strings.Lines(shown) {
		fmt.Fprintf(w, "    %s\n", strings.TrimSuffix(line, "\n"))
	}
}

func newCronRunCmd(g *globals) *cobra.Command {
	return &cobra.Command{Use: "run NAME", Short: "run a job now: its output here, its exit status passed on",
		Long: `The run goes on when this command is interrupted. Exit status: the job's own;
125 when the agent could not start it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return exitIf(125, err)
			}
			var r supervisor.Run
			if err := cl.Post(c.Context(), api.Path("cron", args[0], "run"), nil, &r); err != nil {
				return exitIf(125, err)
			}
			if err := follow(c.Context(), cl, r.ID, g.out); err != nil {
				return exitIf(125, err)
			}
			return waitFor(c.Context(), g, cl, r.ID)
		}}
}

func newCronHistoryCmd(g *globals) *cobra.Command {
	o := psOptions{kind: "cron", all: true}
	c := &cobra.Command{Use: "history [NAME]", Short: "past runs of the jobs on this instance, newest first", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.name = args[0]
			}
			list, err := o.list(c, g)
			switch {
			case err != nil:
				return err
			case o.json:
				return printJSON(g.out, list)
			}
			return printPast(g, list)
		}}
	c.Flags().IntVarP(&o.n, "number", "n", 50, "how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func printPast(g *globals, list []supervisor.Run) error {
	if len(list) == 0 {
		fmt.Fprintln(g.err, "no runs are kept")
		return nil
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, []string{r.ID, r.Name, r.Started.Local().Format("01-02 15:04:05"), tookOf(r), launch.Describe(r), megabytes(r.PeakMemory), cmp.Or(r.Meta[launch.HostOf], "-"), r.Reason})
	}
	return table(g.out, []string{"ID", "JOB", "STARTED", "TOOK", "STATE", "PEAK", "HOST", "WHY"}, rows)
}

func cronSwitch(g *globals, verb, short string) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			return cl.Post(c.Context(), api.Path("cron", args[0], verb), nil, nil)
		}}
}
