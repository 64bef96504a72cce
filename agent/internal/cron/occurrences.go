package cron

import (
	"fmt"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/scheduler"
)

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
