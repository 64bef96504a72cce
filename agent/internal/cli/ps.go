package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

type psOptions struct {
	kind, name string
	id         string // of one run
	all, json  bool
	n          int
}

func newPsCmd(g *globals) *cobra.Command {
	var o psOptions
	c := &cobra.Command{Use: "ps [ID]", Short: "what runs now: cron jobs, sessions, commands",
		Long: "ps lists what runs now: cron jobs, sessions, commands. With an ID it shows that run, ended or not, " +
			"and with --json to root its arguments, too.",
		Args: arguments,
		RunE: func(c *cobra.Command, args []string) error {
			if err := cmp.Or(o.check(c), notEmpty(args)); err != nil {
				return misuse(err)
			}
			o.id = strings.Join(args, "")
			return o.print(c, g)
		}}
	c.Flags().BoolVarP(&o.all, "all", "a", false, "also what ended, newest first")
	c.Flags().StringVar(&o.kind, "kind", "", "only cron or exec")
	c.Flags().IntVarP(&o.n, "number", "n", 50, "with --all: how many")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// check refuses flags that would be ignored, or match nothing.
func (o *psOptions) check(c *cobra.Command) error {
	switch {
	case !o.all && c.Flags().Changed("number"):
		return errors.New("-n goes with --all: what runs is listed whole")
	case o.n < 1 || o.n > api.MaxRuns:
		return fmt.Errorf("-n: expected 1 to %d, have %d", api.MaxRuns, o.n)
	case !slices.Contains([]string{"", "cron", "exec"}, o.kind):
		return fmt.Errorf("--kind: expected cron or exec, have %q", o.kind)
	}
	return nil
}

// list asks for the runs that the options choose.
func (o *psOptions) list(c *cobra.Command, g *globals) ([]runs.Run, error) {
	cl, err := g.client()
	if err != nil {
		return nil, err
	}
	if o.id != "" {
		one := make([]runs.Run, 1)
		return one, cl.Get(c.Context(), api.Path("runs", o.id), &one[0])
	}
	q := url.Values{"kind": {o.kind}, "name": {o.name}}
	if o.all { // what runs is always listed whole
		q.Set("all", "1")
		q.Set("n", strconv.Itoa(o.n))
	}
	list := []runs.Run{}
	head, err := cl.GetList(c.Context(), "/v1/runs?"+q.Encode(), &list)
	if left, _ := strconv.Atoi(head.Get(runs.LeftOut)); left > 0 {
		printf(g.Err, "%s left out: a list has at most %d MB; --kind and agent cron history NAME choose fewer\n",
			api.Count(left, "older run"), runs.MaxList>>20)
	}
	return list, err
}

func (o *psOptions) print(c *cobra.Command, g *globals) error {
	list, err := o.list(c, g)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(g.Out, "ps", printedRuns(list))
	}
	var rows [][]string
	for _, r := range list {
		rows = append(rows, runRow(r))
	}
	return table(g.Out, []string{"ID", "KIND", "NAME", "USER", "PID", "STARTED", "TOOK", "RESULT", "PEAK"}, rows)
}

func runRow(r runs.Run) []string {
	state := runs.Describe(r)
	if r.Meta[runs.MetaShared] != "" {
		state += ", shared"
	}
	return []string{r.ID, r.Kind, r.Name, r.User, strconv.Itoa(r.PID), startOf(r), tookOf(r), state,
		megabytes(r.PeakMemory)}
}

func startOf(r runs.Run) string { return r.Started.Local().Format("01-02 15:04:05") }

func tookOf(r runs.Run) string {
	if r.Ended.IsZero() {
		return ago(r.Started)
	}
	return r.Took().Round(10 * time.Millisecond).String()
}
