package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/cloudwatch"
	"beanstalk-agent/agent/internal/control"
)

func newMetricsCmd(g *globals) *cobra.Command {
	var once, asJSON, cost bool
	var instances int
	c := &cobra.Command{Use: "metrics", Short: "what one publish would send now, and what it costs",
		Long: `Prints the metrics of the present interval as CloudWatch gets them. With --cost,
what they cost in a month, before anything is sent.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client()
			if err != nil {
				return err
			}
			if cost {
				return printCost(c, g, cl, instances, asJSON)
			}
			var raw json.RawMessage
			if err := cl.Get(c.Context(), "/v1/metrics", &raw); err != nil {
				return err
			}
			if asJSON {
				return printJSON(g.out, raw)
			}
			var p cloudwatch.Payload
			if err := json.Unmarshal(raw, &p); err != nil {
				return err
			}
			return printPayload(g, p)
		}}
	f := c.Flags()
	f.BoolVar(&once, "once", true, "one publish's worth (there is no other way yet)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&cost, "cost", false, "what they cost in a month")
	f.IntVar(&instances, "instances", 2, "with --cost: how many instances the environment has")
	return c
}

func printPayload(g *globals, p cloudwatch.Payload) error {
	var rows [][]string
	for _, d := range p.Datums {
		var dims []string
		for k, v := range d.Dimensions {
			dims = append(dims, k+"="+v)
		}
		slices.Sort(dims)
		rows = append(rows, []string{d.Name, figure(d.Value), string(d.Unit), strings.Join(dims, " ")})
	}
	fmt.Fprintf(g.err, "namespace %s\n", p.Namespace)
	return table(g.out, []string{"METRIC", "MEAN", "UNIT", "DIMENSIONS"}, rows)
}

// figure prints a value as a person reads it: no more digits than matter.
func figure(v float64) string {
	if math.Abs(v) >= 1000 || v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

func printCost(c *cobra.Command, g *globals, cl *control.Client, instances int, asJSON bool) error {
	var cost cloudwatch.Cost
	if err := cl.Get(c.Context(), "/v1/metrics/cost?instances="+strconv.Itoa(instances), &cost); err != nil {
		return err
	}
	if asJSON {
		return printJSON(g.out, cost)
	}
	_, err := fmt.Fprintf(g.out, "%d series in %d shared and %d per-instance dimension sets, %d instances: %d metrics, %d requests a month: $%.2f\n",
		cost.Series, cost.Sets, cost.OwnSets, cost.Instances, cost.Metrics, cost.Requests, cost.Dollars)
	return err
}
