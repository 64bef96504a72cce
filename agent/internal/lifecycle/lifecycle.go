// Package lifecycle starts services in order and stops them in reverse.
//
// Order is data: a service may use those listed before it, so the last one is stopped, and waited for, first. A service
// that fails stops them all, because an agent without its scheduler looks healthy and loses runs.
package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Service is one part of the program that runs until it is stopped.
type Service struct {
	// Name is a noun an operator reads in the log.
	Name string

	// Run blocks until ctx is done, then cleans up and returns. It returns nil
	// early when the service has nothing to do on this host.
	Run func(ctx context.Context) error

	// Grace bounds how long Run may take to return after ctx is done; 0 means
	// DefaultGrace. A service that takes longer is abandoned and named.
	Grace time.Duration
}

// DefaultGrace is the time a service has to stop.
const DefaultGrace = 5 * time.Second

// ErrOverstayed is returned for a service that did not stop within its grace.
var ErrOverstayed = errors.New("did not stop in time")

type running struct {
	Service
	stop context.CancelCauseFunc
	done chan struct{}
	err  error // valid once done is closed
}

// Run starts the services in order and blocks until ctx is done or one of them fails; then it stops them in reverse
// order and waits for each before the next. It returns the failures joined, or nil after an orderly stop. A service's
// context has no deadline and ends only when that service is stopped.
func Run(ctx context.Context, log *slog.Logger, services ...Service) error {
	failed := make(chan *running, len(services))
	var all []*running
	for _, s := range services {
		all = append(all, start(ctx, s, failed))
	}
	select {
	case <-ctx.Done():
		log.Info("stopping", "cause", context.Cause(ctx).Error())
	case r := <-failed:
		log.Error("service failed", "service", r.Name, "err", r.err)
	}
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		if err := all[i].end(context.Cause(ctx)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", all[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

func start(ctx context.Context, s Service, failed chan<- *running) *running {
	own, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &running{Service: s, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = run(own, s)
		if r.err != nil && own.Err() == nil {
			failed <- r
		}
	}()
	return r
}

// run turns a panic into an error, so that the other services stop in order.
func run(ctx context.Context, s Service) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.Run(ctx)
}

// end stops r and waits for it within its grace.
func (r *running) end(cause error) error {
	r.stop(cause)
	limit := time.NewTimer(cmp.Or(r.Grace, DefaultGrace))
	defer limit.Stop()
	select {
	case <-r.done:
	case <-limit.C:
		return ErrOverstayed
	}
	if errors.Is(r.err, context.Canceled) {
		return nil
	}
	return r.err
}
