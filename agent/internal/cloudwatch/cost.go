package cloudwatch

import (
	"slices"
	"time"
)

// Prices of us-east-1 in dollars, before any free tier, from third parties' price lists of 2026-11; the authority is
// https://aws.amazon.com/cloudwatch/pricing. Metrics are billed by the hour in which they were sent.
const pricePerThousandRequests = 0.01

// tiers are the prices of one metric and month, up to so many metrics.
var tiers = []struct {
	upTo  int
	price float64
}{{10_000, 0.30}, {250_000, 0.10}, {1_000_000, 0.05}, {1 << 62, 0.02}}

const month = 730 * time.Hour

// Cost is what publishing costs in a month.
type Cost struct {
	Series    int     `json:"series"`    // distinct names and labels on one instance
	Sets      int     `json:"sets"`      // dimension sets shared by all instances
	OwnSets   int     `json:"own_sets"`  // dimension sets that name the instance, which count once for each
	Instances int     `json:"instances"` // as asked
	Metrics   int     `json:"metrics"`   // billed: series x (sets + own sets x instances)
	Requests  int     `json:"requests"`  // a month
	Dollars   float64 `json:"dollars"`   // a month

	ForMetrics float64 `json:"dollars_metrics"` // the part for metrics; the rest is for requests
}

// Cost computes the price of publishing the current series from so many instances. It sends nothing.
func (p *Publisher) Cost(instances int) Cost {
	p.mu.Lock()
	series := p.aggregate.count()
	p.mu.Unlock()
	c := Cost{Series: series, Instances: instances}
	for _, set := range p.sets {
		if perInstance(set) {
			c.OwnSets++
		} else {
			c.Sets++
		}
	}
	c.Metrics = c.Series * (c.Sets + c.OwnSets*instances)
	c.Requests = int(month/p.config.Interval) * instances
	c.ForMetrics = metricPrice(c.Metrics)
	c.Dollars = c.ForMetrics + float64(c.Requests)/1000*pricePerThousandRequests
	return c
}

func perInstance(set []string) bool { return slices.Contains(set, "InstanceId") }

func metricPrice(n int) (dollars float64) {
	from := 0
	for _, t := range tiers {
		in := min(n, t.upTo) - from
		if in <= 0 {
			break
		}
		dollars += float64(in) * t.price
		from = t.upTo
	}
	return dollars
}
