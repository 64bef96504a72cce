package cron

import (
	"fmt"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// MonthlyCost is what so many instances pay in a month for claiming these jobs' slots.
func MonthlyCost(jobs []scheduler.Job, instances int) api.CronCost {
	lease := claim.LeaseCost()
	out := api.CronCost{Instances: instances, Jobs: []api.CronJobCost{},
		LeasePuts: lease.Puts, LeaseDollars: lease.Dollars}
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
	if len(out.Jobs) > 0 {
		c := claim.EstimateLooks(instances)
		out.Looks = api.CronJobCost{Name: "(looks for doubles)", Puts: c.Puts, Dollars: c.Dollars}
		out.Puts, out.Dollars = out.Puts+c.Puts, out.Dollars+c.Dollars
	}
	return out
}

// Occurrences are the next n times at which the jobs of t are due, or the one named job.
func Occurrences(t scheduler.Table, from time.Time, n int, job string) ([]api.Occurrence, error) {
	if _, ok := t.Job(job); job != "" && !ok {
		return nil, fmt.Errorf("there is no job %q", job)
	}
	list := []api.Occurrence{}
	for o := range t.Upcoming(from, func(j scheduler.Job) bool { return job == "" || j.Name == job }) {
		list = append(list, api.Occurrence{Job: o.Job, At: o.At.Format(time.RFC3339), Note: o.Note})
		if len(list) >= n {
			break
		}
	}
	return list, nil
}
