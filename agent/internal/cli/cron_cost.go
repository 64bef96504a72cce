package cli

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/cron"
)

// costOptions are those of cron list --cost.
type costOptions struct {
	file, zone string
	instances  int
}

// print shows what claiming the slots costs in a month: of the agent's jobs, or of a cron file's, as if each were to
// run on one instance.
func (o *costOptions) print(c *cobra.Command, g *globals, asJSON bool) error {
	if o.instances < 1 {
		return misuse(fmt.Errorf("--instances: expected at least 1, have %d", o.instances))
	}
	cost, err := o.cost(c, g)
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(g.Out, "cron list --cost", cost)
	}
	number := strconv.Itoa
	dollars := func(d float64) string { return fmt.Sprintf("$%.2f", d) }
	var rows [][]string
	for _, j := range cost.Jobs {
		rows = append(rows, []string{j.Name, number(j.Slots), number(j.Puts), number(j.Gets), dollars(j.Dollars)})
	}
	if l := cost.Looks; l.Puts > 0 {
		rows = append(rows, []string{l.Name, "", number(l.Puts), number(l.Gets), dollars(l.Dollars)})
	}
	rows = append(rows, []string{"all", "", number(cost.Puts), number(cost.Gets), dollars(cost.Dollars)})
	printf(g.Err, "note: S3 requests a month for %s that one of %s runs; jobs on all, or off, need none\n",
		api.Count(len(cost.Jobs), "job"), api.Count(cost.Instances, "instance"))
	if cost.LeasePuts > 0 { // else the agent is older
		printf(g.Err, "note: a run writes once more each 100 seconds that it takes: %d PUT, %s a month, for a job "+
			"that always runs\n", cost.LeasePuts, dollars(cost.LeaseDollars))
	}
	return table(g.Out, []string{"JOB", "SLOTS", "PUTS", "GETS", "DOLLARS"}, rows)
}

func (o *costOptions) cost(c *cobra.Command, g *globals) (cost api.CronCost, err error) {
	if o.file != "" {
		t, err := readCron(o.file, o.zone)
		if err != nil {
			return cost, err
		}
		return cron.MonthlyCost(t.Jobs, o.instances), nil
	}
	q := url.Values{"instances": {strconv.Itoa(o.instances)}}
	err = g.get(c.Context(), "/v1/cron/cost?"+q.Encode(), &cost)
	return cost, err
}
