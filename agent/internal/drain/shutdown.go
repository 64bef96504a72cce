package drain

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// extendStep is how long systemd is asked to wait at a time, below TimeoutStopSec= of agent.service.
const extendStep = 30 * time.Second

// EndJobs ends each cron run with its grace, once this machine shuts down, and returns when they have ended. The agent
// still runs: it reports each end, and notes it where other instances look. The supervisor would end them after the
// agent's own stop, when that cannot be done. Sessions and commands are left to it.
func (d *Drain) EndJobs(ctx context.Context) error {
	if !slices.ContainsFunc(d.Reasons(), func(r Reason) bool { return r.By == Shutdown }) {
		return conflict("this machine does not shut down: no job is ended")
	}
	live, err := d.cfg.Runs(ctx, runs.Filter{Live: true, Kind: "cron"})
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	errs := make([]error, len(live))
	var ending sync.WaitGroup
	for i, r := range live {
		ending.Go(func() {
			if _, err := d.cfg.Interrupt(ctx, r.ID, runs.StoppedShutdown); !errors.Is(err, runs.ErrEnded) {
				errs[i] = err
			}
		})
	}
	go func() { // ends with the runs, or ctx
		ending.Wait()
		close(gone)
	}()
	for tick := time.Tick(extendStep / 3); ; {
		d.cfg.Extend(extendStep)
		select {
		case <-gone:
			return errors.Join(errs...)
		case <-tick:
		}
	}
}
