package daemon

import (
	"context"
	"os"
	"time"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/runs"
)

// namedRuns are the runs of this instance, each with the instance's name as it is known now. The record of a run that
// started before the metadata service answered has no name, and one of an older agent's has the host's: shown as they
// are, the runs of one instance would seem to be of two.
type namedRuns struct {
	*runs.Client
	app *app.App
}

func (n namedRuns) List(ctx context.Context, f runs.Filter) ([]runs.Run, error) {
	list, err := n.Client.List(ctx, f)
	for i := range list {
		list[i] = n.named(list[i])
	}
	return list, err
}

func (n namedRuns) Get(ctx context.Context, id string) (runs.Run, error) {
	r, err := n.Client.Get(ctx, id)
	return n.named(r), err
}

func (n namedRuns) Wait(ctx context.Context, id string) (runs.Run, error) {
	r, err := n.Client.Wait(ctx, id)
	return n.named(r), err
}

func (n namedRuns) Stop(ctx context.Context, id string, grace time.Duration) (runs.Run, error) {
	r, err := n.Client.Stop(ctx, id, grace)
	return n.named(r), err
}

func (n namedRuns) named(r runs.Run) runs.Run {
	host, _ := os.Hostname()
	if was := r.Meta[runs.MetaHost]; was != "" && was != host {
		return r // an id
	}
	if r.Meta == nil {
		r.Meta = map[string]string{}
	}
	r.Meta[runs.MetaHost] = n.app.Name()
	return r
}
