package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// Poster says how a url: job reaches the application: the agent's own binary,
// run as the application's user, makes the request, so that such a job has
// output, history and limits as every other.
type Poster struct {
	Exe string                             // this binary
	Env func(ctx context.Context) []string // NAME=value for its post verb: where to, with which Host and headers; not on its command line, which everybody can read
}

// maxLockWait is how long a job waits at most for a lock that an exec holds; as
// long as a missed slot of it may be caught up with, if that is less.
const maxLockWait = 24 * time.Hour

// Run runs one firing and waits for its end; it is the scheduler's Runner. An
// error of kind *RunError is a run that ended badly; any other, one that could
// not start.
func (l *Launcher) Run(ctx context.Context, f scheduler.Firing) error {
	if err := l.claim(ctx, f); err != nil {
		return err
	}
	id := idOf(f)
	run, ended, err := l.start(ctx, id, f)
	switch {
	case errors.Is(err, runs.ErrExists): // started before the agent died and could note it
	case err != nil:
		l.finish(ctx, f, "not started")
		if ctx.Err() != nil { // while it waited for the lock
			return context.Cause(ctx)
		}
		return err
	case f.Reason == scheduler.Manual:
		l.started(f.Job.Name, run)
	}
	if f.Coalesced > 0 && run.Reason != reason(f) { // what that run says for itself is about its own slot
		l.Log.Info("run stands for earlier slots, too", "run", id, "name", f.Job.Name, "why", reason(f))
	}
	f.Begun()
	return l.await(ctx, id, ended, f)
}

// claim asks who runs the slot, once for all attempts at it. A run that
// somebody asked for by hand is nobody's slot.
func (l *Launcher) claim(ctx context.Context, f scheduler.Firing) error {
	if f.Reason == scheduler.Manual {
		return nil
	}
	l.mu.Lock()
	won := l.won[f.Job.Name].Equal(f.Due)
	l.mu.Unlock()
	if won {
		return nil
	}
	if err := l.Claims.Claim(ctx, f); err != nil {
		return err
	}
	l.hold(f)
	return nil
}

// hold notes that this instance has the slot, for the attempts that may follow.
func (l *Launcher) hold(f scheduler.Firing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.won == nil {
		l.won = map[string]time.Time{}
	}
	l.won[f.Job.Name] = f.Due
}

// await waits for the end of a slot's run, which ended returns, and notes it for
// the fleet.
func (l *Launcher) await(ctx context.Context, id string, ended func() (runs.Run, error), f scheduler.Firing) error {
	err := l.wait(ctx, id, ended)
	outcome := runs.Good
	if err != nil {
		outcome = err.Error()
	}
	l.finish(ctx, f, outcome)
	return err
}

// finish notes it unless the agent stops: then the run goes on, or is owed, and the next
// life notes what becomes of it.
func (l *Launcher) finish(ctx context.Context, f scheduler.Firing, outcome string) {
	switch cause := context.Cause(ctx); {
	case f.Reason == scheduler.Manual, errors.Is(cause, scheduler.ErrStopping):
		return
	case cause != nil: // replaced: what comes next waits for this
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), replacedLimit)
		defer cancel()
	}
	l.Claims.Finish(ctx, f.Job, f.Due, outcome)
}

const replacedLimit = 5 * time.Second

// Await returns what waits for a run that exists already, as a Runner's Run.
func (l *Launcher) Await(id string) func(context.Context, scheduler.Firing) error {
	return func(ctx context.Context, f scheduler.Firing) error {
		l.hold(f)
		return l.await(ctx, id, func() (runs.Run, error) { return l.Runs.Wait(ctx, id) }, f)
	}
}

// Manual has trigger start a job and returns its run as soon as there is one;
// trigger returns at the run's end, or when its context ends, which leaves the
// run alone.
func (l *Launcher) Manual(ctx context.Context, job string, trigger func(context.Context, string) error) (runs.Run, error) {
	begun := make(chan runs.Run, 1)
	l.mu.Lock()
	if l.manual == nil {
		l.manual = map[string]chan runs.Run{}
	}
	l.manual[job] = begun
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- trigger(ctx, job) }() // ends with ctx at the latest
	select {
	case run := <-begun:
		return run, nil
	case err := <-failed:
		select {
		case run := <-begun: // it has ended already
			return run, nil
		default:
			return runs.Run{}, err
		}
	}
}

func (l *Launcher) started(job string, run runs.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.manual[job]; c != nil {
		c <- run
		delete(l.manual, job)
	}
}

// start starts the run; ended waits for its end, also where it exists already.
func (l *Launcher) start(ctx context.Context, id string, f scheduler.Firing) (run runs.Run, ended func() (runs.Run, error), err error) {
	extra := f.Job.Env
	if f.Job.URL != "" {
		extra = append(slices.Clone(extra), l.Poster.Env(ctx)...)
	}
	req, err := l.request(ctx, appenv.ProfileOptions{Dir: f.Job.Dir, Extra: extra})
	if err != nil {
		return run, nil, fmt.Errorf("start job: %w", err)
	}
	req.Args = l.argv(f)
	req.ID, req.Kind, req.Name, req.IO, req.Detached = id, "cron", f.Job.Name, runs.IOSpool, true
	req.Timeout, req.MaxOutput = f.Job.Timeout, f.Job.MaxOutput
	req.Slot, req.Attempt, req.Reason = f.Due, f.Attempt, reason(f)
	if req.Lock = f.Job.Lock; f.Reason != scheduler.Manual { // a command that somebody typed may hold it
		req.LockWait = min(f.Job.CatchUp, maxLockWait)
	}
	run, ended, err = l.Runs.Begin(ctx, req)
	if err == nil {
		l.audit("run started", run, req.Args)
	}
	return run, ended, err
}

func (l *Launcher) argv(f scheduler.Firing) []string {
	switch {
	case f.Job.URL != "":
		return []string{l.Poster.Exe, "post", "--task", f.Job.Name, "--scheduled-at", f.Due.UTC().Format(time.RFC3339), "--", f.Job.URL}
	case len(f.Job.Args) > 0:
		return f.Job.Args
	}
	return command.Shell(f.Job.Command)
}

func reason(f scheduler.Firing) string {
	if f.Why == "" {
		return string(f.Reason)
	}
	return fmt.Sprintf("%s: %s", f.Reason, f.Why)
}

// wait returns when the run has ended. When the scheduler replaces the run it
// is stopped; when the agent stops it goes on without us.
func (l *Launcher) wait(ctx context.Context, id string, ended func() (runs.Run, error)) error {
	for {
		run, err := ended()
		switch {
		case err == nil && run.State == runs.StateLost:
			return scheduler.ErrLost
		case err == nil && run.ExitCode != 0:
			return &RunError{run}
		case err == nil:
			return nil
		case errors.Is(context.Cause(ctx), scheduler.ErrReplaced):
			_, err := l.Runs.Stop(context.WithoutCancel(ctx), id, 0)
			return errors.Join(scheduler.ErrReplaced, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, runs.ErrUnknown), errors.Is(err, fs.ErrNotExist):
			l.Log.Warn("how a run ended cannot be known", "run", id, "err", err) // nobody else may
			return scheduler.ErrLost
		}
		l.Log.Warn("waiting for the supervisor", "run", id, "err", err)
		select { // the supervisor is being replaced, or died: systemd starts it again
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
