package cron

import (
	"context"
	"errors"
	"slices"
	"sync"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/claim"
	"beanstalk-agent/scheduler"
)

// History is `agent cron history`, as far as the registers know more than this instance: runs of others, those that are
// gone included. Of all jobs, or of the one named, which need not be in the cron file any more.
func (c *Cron) History(ctx context.Context, job string) (api.CronHistory, error) {
	s, err := c.fleet.open()
	if errors.Is(err, errNoStore) {
		return api.CronHistory{Runs: []api.CronRun{}}, nil
	}
	if err != nil {
		return api.CronHistory{}, api.Unavailable(err)
	}
	names := []string{job}
	if job == "" {
		names = nil
		for _, st := range c.sched.Snapshot() {
			if st.Job.On != scheduler.OnAll {
				names = append(names, st.Job.Name)
			}
		}
	}
	out := api.CronHistory{Runs: []api.CronRun{}}
	var mu sync.Mutex
	unread, err := eachRegister(ctx, s, names, func(name string, r claim.Register) {
		mu.Lock()
		defer mu.Unlock()
		for _, run := range r.Runs {
			if run.Owner != s.Owner() {
				out.Runs = append(out.Runs, cronRun(name, run))
			}
		}
	})
	out.Unread = unread
	if err != nil {
		out.Warning = err.Error()
	}
	slices.SortStableFunc(out.Runs, func(a, b api.CronRun) int { return b.Started.Compare(a.Started) })
	return out, nil
}

func cronRun(job string, r claim.Run) api.CronRun {
	return api.CronRun{Job: job, Slot: r.Slot, Started: r.Claimed, Ended: orNil(r.Finished), Outcome: r.Outcome,
		Host: r.Owner, Environment: r.Environment, Attempt: max(r.Attempt, 1), Manual: r.Manual, Tail: r.Output}
}
