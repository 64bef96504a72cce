// Package launch prepares a command as the application would run it and hands it to the supervisor.
//
// Contract: what a run gets (environment, user, groups, directory) is resolved
// when it starts, never earlier, and is the same for a cron job and for a
// command that a person typed. Who may choose what is decided here: only root
// and the agent's own user choose another user than the application's.
//
// Values of the environment and arguments never reach a log from here.
package launch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// Runs is the part of the supervisor that starts and awaits runs.
type Runs interface {
	Start(context.Context, runs.Request, runs.Handover) (runs.Run, error)
	Begin(context.Context, runs.Request) (run runs.Run, ended func() (runs.Run, error), err error)
	Wait(ctx context.Context, id string) (runs.Run, error)
	Stop(ctx context.Context, id string, grace time.Duration) (runs.Run, error)
}

// Claims decides which instance of a fleet runs a slot of a job.
type Claims interface {
	// Claim returns nil when this instance runs the slot, scheduler.ErrElsewhere
	// when another does, and any other error when that cannot be told.
	Claim(context.Context, scheduler.Firing) error
	// Finish notes how the run ended.
	Finish(ctx context.Context, job scheduler.Job, slot time.Time, outcome string)
}

// Launcher starts runs. All exported fields but the limits and NoNewPrivs are required. It is safe for
// concurrent use.
type Launcher struct {
	Profile func(context.Context, appenv.ProfileOptions) (appenv.Profile, error)
	Runs    Runs
	Version func() string // the application's deployed version, for the record
	Host    func() string // this instance's name, for the record
	Poster  Poster        // how a url: job is POSTed
	Claims  Claims        // who decides which instance runs a slot
	Audit   string        // program or full: how much of argv the log shows
	Log     *slog.Logger

	// How long a terminal may stay open, so that no forgotten shell holds memory for months. 0: for ever.
	Idle    time.Duration // without input and output
	Session time.Duration // in all

	NoNewPrivs bool // setuid programs give a run nothing

	mu     sync.Mutex
	won    map[string]time.Time     // by job: the slot that this instance has claimed
	manual map[string]chan runs.Run // by job: who triggered it and waits for its run
}

// Oom scores: a command that somebody typed, or a job, must die before the web
// workers do when memory runs out. 0 is the workers' own.
const oomScoreAdj = 300

// Prepare checks an exec and gets everything ready but the start.
func (l *Launcher) Prepare(ctx context.Context, who api.Caller, req api.ExecRequest) (func(context.Context, runs.Handover) (runs.Run, error), error) {
	if req.User != "" && !who.Owner {
		return nil, &api.Error{Status: http.StatusForbidden, Exit: command.CodeRefused,
			Message: who.Login + " may not choose the user", Hint: "only root may: try again with sudo"}
	}
	r, err := l.request(ctx, appenv.ProfileOptions{User: req.User, Dir: req.Dir, Extra: req.Env})
	if err != nil {
		return nil, refuse(err)
	}
	r.Kind, r.Name, r.Args = "exec", path.Base(req.Args[0]), req.Args
	r.IO = map[string]string{api.Pipes: runs.IOPipes, api.Terminal: runs.IOTerminal, api.Detached: runs.IOSpool}[req.Mode]
	r.Detached = req.Mode == api.Detached
	r.Size = req.Size
	r.Timeout, r.Grace, r.MemoryMax, r.Lock = req.Timeout, req.Grace, req.Memory, req.Lock
	r.Caller = runs.Caller{UID: who.UID, PID: who.PID, Login: who.Login}
	if req.Mode == api.Terminal {
		r.Idle, r.Timeout = cmp.Or(req.Idle, l.Idle), cmp.Or(req.Timeout, l.Session)
	}
	if req.User != "" {
		r.Meta[runs.MetaChosenUser] = req.User
	}
	if who.Session != "" {
		r.Meta[runs.MetaLogin] = who.Session
	}
	return func(ctx context.Context, h runs.Handover) (runs.Run, error) {
		run, err := l.Runs.Start(ctx, r, h)
		if err != nil {
			return run, refuse(err)
		}
		l.audit("run started", run, r.Args)
		return run, nil
	}, nil
}

// request is what every run has in common.
func (l *Launcher) request(ctx context.Context, o appenv.ProfileOptions) (runs.Request, error) {
	p, err := l.Profile(ctx, o)
	if err != nil {
		return runs.Request{}, err
	}
	return runs.Request{
		Env: p.Env, Dir: p.Dir, UID: p.User.UID, GID: p.User.GID, Groups: p.User.Groups, User: p.User.Name,
		Umask: cmp.Or(p.Umask, command.NoUmask), OOMScoreAdj: oomScoreAdj, NoNewPrivs: l.NoNewPrivs, Version: l.Version(),
		Meta: map[string]string{runs.MetaHost: l.Host()}, // not a field of its own: an older supervisor refuses those
	}, nil
}

// refuse gives err the exit status that an exec ends with.
func refuse(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	e := &api.Error{Status: http.StatusConflict, Exit: command.CodeRefused, Message: err.Error()}
	if r, ok := errors.AsType[*runs.Refused](err); ok {
		e.Exit, e.Hint = r.Code, r.Hint
	}
	return e
}

// RunError is a job's run that ended badly.
type RunError struct{ Run runs.Run }

func (e *RunError) Error() string { return runs.Describe(e.Run) }

// audit is the one line that says who started what. Arguments may hold
// secrets, so by default only the program and how many there were.
func (l *Launcher) audit(msg string, r runs.Run, args []string) {
	a := []any{"run", r.ID, "kind", r.Kind, "name", r.Name, "user", r.User, "dir", r.Dir, "args", len(args) - 1}
	if r.Kind == "cron" && r.Reason != string(scheduler.Scheduled) {
		a = append(a, "why", r.Reason)
	}
	if r.Kind == "exec" {
		a = append(a, "caller", r.Caller.Login, "caller_uid", r.Caller.UID, "io", r.IO)
		if login := r.Meta[runs.MetaLogin]; login != "" {
			a = append(a, "login", login)
		}
	}
	if l.Audit == "full" {
		a = append(a, "argv", args)
	}
	l.Log.Info(msg, a...)
}

// Ended is the line that says how a run ended.
func Ended(log *slog.Logger, r runs.Run) {
	a := []any{"run", r.ID, "kind", r.Kind, "name", r.Name, "how", runs.Describe(r), "took", r.Took().Round(time.Millisecond).String(), "peak_mb", r.PeakMemory >> 20}
	switch {
	case r.Kind == "exec":
		a = append(a, "caller", r.Caller.Login)
	case r.Reason != string(scheduler.Scheduled): // here too: who was killed right after the start has not said it
		a = append(a, "why", r.Reason)
	}
	log.Info("run ended", a...)
}

func idOf(f scheduler.Firing) string {
	if f.Reason == scheduler.Manual { // no slot: any number a second
		return runs.ManualID(f.Job.Name, f.Due, f.Attempt)
	}
	return runs.SlotID(f.Job.Name, f.Due, f.Attempt)
}
