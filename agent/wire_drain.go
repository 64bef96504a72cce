package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/agent/internal/health"
	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/collectors"
)

// untilItIsGone is how long jobs are held on an instance that goes away: longer
// than it can still take.
const untilItIsGone = 24 * time.Hour

// drain is an operator's wish or, for shutdown, systemd's. Only the latter holds
// cron starts, as a termination notice does: an instance may be drained to be
// looked at, and be the only one that runs the jobs.
func (b *backend) drain(_ context.Context, reason string, shutdown bool) error {
	if !shutdown {
		b.check.Drain(health.Operator, reason)
		return nil
	}
	b.check.Drain("shutdown", "this machine is shutting down")
	b.cron.sched.Hold(untilItIsGone)
	return nil
}

func (b *backend) undrain(context.Context) error {
	undrained := b.check.Undrain(health.Operator)
	for _, d := range b.check.Draining() {
		return &control.Error{Status: http.StatusConflict, Message: "still draining, whatever operators wish: " + d.Reason}
	}
	if !undrained {
		return &control.Error{Status: http.StatusConflict, Message: "no operator has drained this instance"}
	}
	return nil
}

// goesAway returns why jobs are held for good: a drain that no operator wished.
func (b *backend) goesAway() (why string, yes bool) {
	for _, d := range b.check.Draining() {
		if d.By != health.Operator {
			return d.Reason, true
		}
	}
	return "", false
}

// hold holds cron starts, as a deployment does, unless they are held for good.
func (b *backend) hold(_ context.Context, limit time.Duration) error {
	if _, yes := b.goesAway(); !yes {
		b.cron.hold(limit)
	}
	return nil
}

// release lets jobs start again: those of the table that is there now. A
// deployment does this at its end, also on an instance that is going away.
func (b *backend) release(ctx context.Context) error {
	err := b.reload(ctx)
	if why, yes := b.goesAway(); yes {
		return errors.Join(err, &control.Error{Status: http.StatusConflict, Message: "jobs stay held, for this instance goes away: " + why})
	}
	b.cron.release()
	return err
}

// healthAnswer is the application's verdict, whatever load balancers are told
// meanwhile: drain, repair, ask, undrain is what people do.
type healthAnswer struct {
	health.Verdict
	Draining []health.Drain `json:"draining,omitempty"`
}

// leaving is what somebody who waits for a drained instance looks at.
func (b *backend) leaving(ctx context.Context) (health.Departure, error) {
	d := health.Departure{Drains: b.check.Draining(), Balancer: b.check.Figures().Balancer, Requests: b.requests(ctx)}
	live, err := b.runs.List(ctx, supervisor.Filter{Live: true})
	for _, r := range live {
		name := strings.TrimSpace(fmt.Sprintf("%s %s (%s)", r.Kind, r.Name, r.ID))
		if r.IO == supervisor.IOTerminal {
			d.Terminals = append(d.Terminals, name)
		} else {
			d.Runs = append(d.Runs, name)
		}
	}
	return d, err
}

// requests counts the connections that the application has accepted on its port
// or socket; -1 where the kernel does not tell.
func (b *backend) requests(ctx context.Context) int {
	where := collectors.ListenConfig{Connections: time.Nanosecond}
	from, _ := origin(ctx, b.cfg, b.inst, b.env)
	target, err := health.ParseTarget(from + "/")
	switch {
	case err != nil:
		return -1
	case target.Network == "unix":
		where.UnixPath = target.Address
	default:
		where.Port = target.Port()
	}
	listen := collectors.NewListen(where)
	defer listen.Close()
	samples, err := listen.Collect(ctx)
	for _, s := range samples {
		if s.Name == "listen_connections" {
			return int(s.Value)
		}
	}
	if errors.Is(err, collectors.ErrNoData) {
		return 0 // nobody listens
	}
	return -1
}
