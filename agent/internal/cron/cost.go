package cron

import (
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// MonthlyCost is what so many instances pay in a month for claiming these jobs' slots.
func MonthlyCost(jobs []scheduler.Job, instances int) api.CronCost {
	out := api.CronCost{Instances: instances, Jobs: []api.CronJobCost{}}
	most := max(1000, 2_000_000/max(len(jobs), 1)) // a second's work in all
	now := time.Now()
	for _, j := range jobs {
		if j.On == scheduler.OnAll {
			continue
		}
		slots := scheduler.PerMonth(j.Schedule, now, most)
		c := claim.Estimate(slots, instances)
		cost := api.CronJobCost{Name: j.Name, Slots: slots, Puts: c.Puts, Gets: c.Gets, Dollars: c.Dollars}
		out.Jobs = append(out.Jobs, cost)
		out.Puts, out.Gets, out.Dollars = out.Puts+c.Puts, out.Gets+c.Gets, out.Dollars+c.Dollars
	}
	return out
}
