package cli

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cron"
)

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
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := o.upcoming(c, g)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(g.Out, "cron next", list)
			}
			var rows [][]string
			for _, n := range list {
				rows = append(rows, []string{n.At, n.Job, n.Note})
			}
			return table(g.Out, []string{"AT", "JOB", "NOTE"}, rows)
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
	most := api.MaxNext
	if o.file != "" {
		most *= 100 // no agent has to hold them
	}
	if o.n < 1 || o.n > most {
		return nil, misuse(fmt.Errorf("-n: expected 1 to %d, have %d", most, o.n))
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
	q := url.Values{"from": {from.Format(time.RFC3339Nano)}, "n": {strconv.Itoa(o.n)}, "job": {o.job}}
	var list []api.Occurrence
	err := g.get(c.Context(), "/v1/cron/next?"+q.Encode(), &list)
	return list, err
}
