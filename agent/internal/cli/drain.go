package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/drain"
)

type drainOptions struct {
	reason    string
	wait      time.Duration
	interval  time.Duration
	threshold int
	shutdown  bool
}

func newDrainCmd(g *globals) *cobra.Command {
	var o drainOptions
	c := &cobra.Command{Use: "drain", Args: arguments,
		Short: "answer the load balancer 503 from now on, and wait until the instance is out of service",
		Long: `Answers each health check 503 from now on, until undrain or a reboot, and waits
until it is needed no more:

  1. a load balancer has asked, and has had the time to count its refusals
     (HealthCheckInterval x UnhealthyThresholdCount, by Beanstalk's defaults 75 s);
  2. the application serves no request, and no cron job or command runs.
     Terminal sessions are named, not waited for.

Running work goes on, and cron jobs still start: "agent hold" stops that. An
application on a single instance, or whose health check does not ask the agent,
has no load balancer to tell: use --wait 0.

Ctrl-C ends the waiting, not the drain.

Exit status: 0 when the instance is out of service, or at once with --wait 0; 1
when --wait has passed, it was interrupted, or no load balancer asks here. The
instance stays drained in each case.

  sudo agent hold --limit 1h && sudo agent drain && sudo reboot`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), g) }}
	c.Flags().StringVar(&o.reason, "reason", "", "shown in status and in the log")
	c.Flags().DurationVar(&o.wait, "wait", 5*time.Minute, "how long at most; 0 returns at once")
	c.Flags().DurationVar(&o.interval, "interval", 15*time.Second, "the load balancer's HealthCheckInterval")
	c.Flags().IntVar(&o.threshold, "threshold", 5, "its UnhealthyThresholdCount")
	c.Flags().BoolVar(&o.shutdown, "shutdown", false, "as systemd asks when the machine goes down")
	c.Flags().Lookup("shutdown").Hidden = true
	return c
}

func (o *drainOptions) run(ctx context.Context, g *globals) error {
	if o.wait < 0 || o.interval <= 0 || o.threshold < 1 {
		return misuse(errors.New("--wait must not be negative, --interval and --threshold must be positive"))
	}
	cl, err := g.client()
	if err != nil {
		return err
	}
	q := url.Values{"reason": {o.reason}}
	if o.shutdown {
		q.Set("shutdown", "1")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	err = cl.Post(ctx, "/v1/drain?"+q.Encode(), nil, nil)
	if err != nil && ctx.Err() != nil { // the agent may have heard it
		return &api.Error{Message: err.Error(),
			Hint: "the instance may be drained: agent status shows it, agent undrain takes it back"}
	}
	if err != nil {
		return err
	}
	say := func(s string) { printf(g.Err, "%s\n", s) }
	say("draining: health checks are answered 503 from now on")
	if o.wait == 0 {
		return nil
	}
	waiting, cancel := context.WithTimeoutCause(ctx, o.wait, fmt.Errorf("%s have passed", o.wait))
	defer cancel()
	w := drain.Waiter{Say: say, Interval: o.interval, Threshold: o.threshold, Shutdown: o.shutdown, Look: look(cl)}
	err = w.Wait(waiting)
	if o.shutdown {
		say("ending jobs, each with its grace")
		return errors.Join(err, cl.Post(ctx, "/v1/drain/jobs", nil, nil))
	}
	if err != nil {
		return stayedDrained(waiting, err)
	}
	say("out of service")
	return nil
}

func look(cl *api.Client) func(context.Context) (drain.Departure, error) {
	return func(ctx context.Context) (d drain.Departure, err error) {
		err = cl.Get(ctx, "/v1/drain", &d)
		return d, err
	}
}

// stayedDrained says why the waiting ended, and how to go on.
func stayedDrained(ctx context.Context, err error) error {
	if errors.Is(err, drain.ErrUndrained) {
		return err
	}
	e := &api.Error{Message: err.Error(),
		Hint: "the instance stays drained: agent drain waits again, agent undrain takes it back"}
	switch {
	case errors.Is(err, drain.ErrNobodyAsks):
		e.Hint += "\nagent health --as-load-balancer tells whether checks reach the agent; " +
			"where there is no load balancer, use --wait 0"
	case ctx.Err() != nil:
		e.Message += fmt.Sprintf(" (%v)", context.Cause(ctx))
	}
	return e
}

func newUndrainCmd(g *globals) *cobra.Command {
	return post(g, "undrain", "answer the load balancer truthfully again", func() (path, done string) {
		return "/v1/undrain", "health checks are answered as the application is again"
	})
}
