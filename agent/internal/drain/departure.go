package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// Departure is how far a drained instance is on its way out of service.
type Departure struct {
	Drains    []Reason  `json:"drains"`              // oldest first
	Balancer  time.Time `json:"balancer,omitzero"`   // when one of AWS's load balancers asked last
	Requests  int       `json:"requests"`            // connections that the application serves; -1: not countable
	Runs      []string  `json:"runs,omitempty"`      // jobs and commands, which end by themselves
	Terminals []string  `json:"terminals,omitempty"` // sessions, which are not waited for
}

// Departure returns how far the drain has come, also with an error.
func (d *Drain) Departure(ctx context.Context) (Departure, error) {
	d.mu.Lock()
	dep := Departure{Drains: slices.Clone(d.reasons), Balancer: d.asked}
	d.mu.Unlock()
	dep.Requests = d.cfg.Connections(ctx)
	live, err := d.cfg.Runs(ctx, runs.Filter{Live: true})
	for _, r := range live {
		name := strings.TrimSpace(fmt.Sprintf("%s %s (%s)", r.Kind, r.Name, r.ID))
		if r.IO == runs.IOTerminal {
			dep.Terminals = append(dep.Terminals, name)
		} else {
			dep.Runs = append(dep.Runs, name)
		}
	}
	return dep, err
}

// Waiter waits until a drained instance may be taken away: each load balancer must have taken it out, and its work
// must be done.
//
// A load balancer does not report its verdict. But each of its nodes asks once in Interval and takes the instance out
// after Threshold refusals in a row. So the instance is out for all of them Interval x Threshold after the drain began,
// if any asks at all.
type Waiter struct {
	// Required.

	Look func(context.Context) (Departure, error)
	Say  func(string) // what is waited for, whenever that changes

	// Optional: Beanstalk's defaults.

	Interval  time.Duration // 15s
	Threshold int           // 5

	// Shutdown waits for no run, since the supervisor's own stop gives each its grace, and for a load balancer only if
	// one has asked within the last minute: a reboot must not take longer in vain.
	Shutdown bool
}

// longestInterval is Beanstalk's for a Network Load Balancer, with a margin.
const longestInterval = 35 * time.Second

// ErrNobodyAsks is returned when no load balancer was answered 503, so that none can have taken the instance out.
var ErrNobodyAsks = errors.New("no load balancer has asked here since the drain began, so none can have heard of it")

// ErrUndrained is returned when the drain was taken back meanwhile.
var ErrUndrained = errors.New("the drain was taken back meanwhile")

// Unfinished is returned when ctx ended first.
type Unfinished struct{ Waited string } // for what

func (e *Unfinished) Error() string { return "not out of service yet: waiting for " + e.Waited }

// Wait looks once a second and returns nil when there is nothing to wait for any more. An agent that answered once and
// does not answer now is restarting.
func (w Waiter) Wait(ctx context.Context) error {
	w.Interval, w.Threshold = cmp.Or(w.Interval, 15*time.Second), cmp.Or(w.Threshold, 5)
	start := time.Now()
	d, err := w.Look(ctx)
	if err != nil {
		return err
	}
	for said := ""; ; {
		what, key := "the agent to answer again", "agent"
		if err == nil {
			if what, key, err = w.next(d, start, time.Now()); err != nil {
				return err
			}
		}
		if what == "" {
			if len(d.Terminals) > 0 {
				w.Say("these sessions go on: " + strings.Join(d.Terminals, ", "))
			}
			return nil
		}
		if key != said {
			w.Say("waiting for " + what)
			said = key
		}
		sleep(ctx, time.Second)
		if d, err = w.Look(ctx); ctx.Err() != nil {
			return &Unfinished{what}
		}
	}
}

// next returns what to wait for, "" for nothing, and a key that changes when that is worth saying again. After a
// restart of the agent the drain is older than the waiting, and its count younger.
func (w Waiter) next(d Departure, start, now time.Time) (what, key string, err error) {
	if len(d.Drains) == 0 {
		return "", "", ErrUndrained
	}
	began, refused := d.Drains[0].Since, d.Drains[0].Refused
	if w.Shutdown && now.Sub(d.Balancer) > time.Minute {
		return "", "", nil
	}
	out := began.Add(w.Interval * time.Duration(w.Threshold))
	switch work := w.work(d); {
	case refused == 0 && now.Sub(start) > max(longestInterval, 2*w.Interval):
		return "", "", ErrNobodyAsks
	case refused == 0:
		return "a load balancer to ask", "ask", nil
	case now.Before(out):
		return fmt.Sprintf("the load balancer to count %d refusals, %s apart: until %s",
			w.Threshold, w.Interval, out.Local().Format(time.TimeOnly)), "count", nil
	case len(work) > 0:
		return strings.Join(work, ", "), "work " + strings.Join(d.Runs, " "), nil
	}
	return "", "", nil
}

// work lists what the instance is still doing and has to end.
func (w Waiter) work(d Departure) (work []string) {
	if d.Requests > 0 {
		work = append(work, fmt.Sprintf("requests that the application serves: %d", d.Requests))
	}
	if !w.Shutdown {
		work = append(work, d.Runs...)
	}
	return work
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
