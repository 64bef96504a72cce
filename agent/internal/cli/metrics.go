package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/metrics"
	"beanstalk-agent/collectors"
)

func newMetricsCmd(g *globals) *cobra.Command {
	var once, again, asJSON, cost bool
	var instances int
	c := &cobra.Command{Use: "metrics", Short: "what one publish would send now, and what it costs",
		Long: `Prints the metrics of the present interval as CloudWatch gets them. With --cost,
what they cost in a month, before anything is sent: those that a running agent
has now. Some come later: the health check's once somebody asks it, the jobs'
with a cron file, worker_headroom when the workers are ten minutes old.

When no agent runs, they are collected here, in a second, and sent nowhere: then
those of cron, the health check and the agent itself are missing. --cost counts
them nevertheless, and those that come later.`,
		Args: arguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if once && again || cost && again {
				return misuse(errors.New("--print goes on until interrupted: --once and --cost do not go with it"))
			}
			m, err := findMetrics(c.Context(), g)
			if err != nil {
				return err
			}
			if cost {
				return printCost(c.Context(), g, m, instances, asJSON)
			}
			for {
				p, err := m.payload(c.Context(), g.Err)
				if err == nil {
					err = printPayload(g, p, asJSON)
				}
				if err != nil || !again {
					return err
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(m.every):
				}
				if !asJSON {
					printf(g.Err, "\n%s, ", time.Now().Format(time.TimeOnly))
				}
			}
		}}
	f := c.Flags()
	f.BoolVar(&once, "once", false, "one publish's worth: the default")
	f.BoolVar(&again, "print", false, "print it again at every sample, until interrupted")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&cost, "cost", false, "what they cost in a month")
	f.IntVar(&instances, "instances", 2, "with --cost: how many instances the environment has")
	return c
}

func printPayload(g *globals, p metrics.Payload, asJSON bool) error {
	if asJSON {
		return printJSON(g.Out, "metrics", p)
	}
	var rows [][]string
	for _, d := range p.Datums {
		var dims []string
		for k, v := range d.Dimensions {
			dims = append(dims, k+"="+v)
		}
		slices.Sort(dims)
		most := d.Values[len(d.Values)-1] // ascending
		rows = append(rows, []string{d.Name, figure(d.Value, d.Unit), figure(most, d.Unit), d.Unit,
			strings.Join(dims, " ")})
	}
	if f := p.FullestDisk; f != nil {
		printf(g.Err, "the fullest disk is %s: %.0f %% used\n", f.Path, f.UsedPercent)
	}
	printf(g.Err, "namespace %s\n", p.Namespace)
	return table(g.Out, []string{"NAME", "VALUE", "MAX", "UNIT", "DIMENSIONS"}, rows)
}

// figure prints a value with the digits that matter, and memory in megabytes. JSON has what CloudWatch gets.
func figure(v float64, unit string) string {
	if math.Abs(v) >= 1<<20 && strings.HasPrefix(unit, string(collectors.Bytes)) {
		return fmt.Sprintf("%.1f MB", v/(1<<20))
	}
	if math.Abs(v) >= 1000 || v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func printCost(ctx context.Context, g *globals, m metricsSource, instances int, asJSON bool) error {
	if instances < 1 {
		return misuse(fmt.Errorf("--instances %d: expected at least 1", instances))
	}
	cost, err := m.cost(ctx, instances)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(g.Out, "metrics --cost", cost)
	}
	sets := fmt.Sprintf("%d shared by all instances", cost.Sets)
	if cost.OwnSets > 0 {
		sets += fmt.Sprintf(", %d for each of %d instances", cost.OwnSets, cost.Instances)
	}
	return printf(g.Out, `metrics   $%.2f   %d: %d series; dimension sets: %s
requests  $%.2f   %d of %d instances
together  $%.2f   a month, at the prices of us-east-1
`, cost.ForMetrics, cost.Metrics, cost.Series, sets, cost.Dollars-cost.ForMetrics, cost.Requests, cost.Instances,
		cost.Dollars)
}
