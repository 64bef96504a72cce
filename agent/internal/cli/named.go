package cli

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/runs"
)

// newest returns the id of a run, or of a job's newest run. A name that looks like a command's id is not taken for that
// job: the record of that command may be gone, and the application chooses the names of its jobs.
func newest(ctx context.Context, cl *api.Client, name string) (string, error) {
	var r runs.Run
	err := cl.Get(ctx, api.Path("runs", name), &r)
	if err == nil {
		return r.ID, nil
	}
	if !answered(err) {
		return "", err
	}
	var list []runs.Run
	if cl.Get(ctx, "/v1/runs?all=1&n=1&kind=cron&name="+url.QueryEscape(name), &list) != nil || len(list) == 0 {
		return "", err
	}
	if e, ok := errors.AsType[*api.Error](err); ok && runs.IsCommandID(name) {
		e.Hint = "of the job of this name the newest run is " + list[0].ID
		return "", e
	}
	return list[0].ID, nil
}

// answered reports whether the agent answered, if only that there is no such run: a silent one is not asked again.
func answered(err error) bool { _, ok := errors.AsType[*api.Error](err); return ok }

// running returns the id of a run, or of a job's only run in progress, with the same exception.
func running(ctx context.Context, cl *api.Client, name string) (string, error) {
	var r runs.Run
	err := cl.Get(ctx, api.Path("runs", name), &r)
	if err == nil {
		return r.ID, nil
	}
	if !answered(err) {
		return "", err
	}
	var list []runs.Run
	failed := cl.Get(ctx, "/v1/runs?kind=cron&name="+url.QueryEscape(name), &list) != nil
	if failed || len(list) == 0 || runs.IsCommandID(name) {
		return "", err
	}
	if len(list) > 1 {
		var ids []string
		for _, r := range list {
			ids = append(ids, r.ID)
		}
		hint := "one of " + strings.Join(ids, ", ")
		return "", &api.Error{Message: "the job has more than one run in progress", Hint: hint}
	}
	return list[0].ID, nil
}
