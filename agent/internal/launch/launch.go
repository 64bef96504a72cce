// Package launch prepares a command as the application would run it and hands it to the supervisor.
//
// Contract: environment, user, groups and directory of a run are resolved when it starts, never earlier, and are the
// same for a cron job and for a typed command. Only root and the agent's own user may choose another user than the
// application's.
//
// Values of the environment and arguments never reach a log from here.
package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// Runs is the part of the supervisor that starts runs.
type Runs interface {
	Start(context.Context, runs.Request, runs.Handover) (runs.Run, error)
	Begin(context.Context, runs.Request) (run runs.Run, ended func() (runs.Run, error), err error)
}

// Launcher starts runs. All fields but the limits and NoNewPrivs are required. It is safe for concurrent use.
type Launcher struct {
	Profile func(context.Context, appenv.ProfileOptions) (appenv.Profile, error)
	Runs    Runs
	Version func() string // the application's deployed version, for the record
	Host    func() string // this instance's name, for the record; "" while it is not known for good
	Audit   string        // program or full: how much of argv the log shows
	Log     *slog.Logger

	// How long a terminal may stay open, so that no forgotten shell holds memory for months. 0: no limit.
	Idle    time.Duration // without input and output
	Session time.Duration // in all

	NoNewPrivs bool // setuid programs give a run nothing
}

// oomScoreAdj has a typed command, or a job, die before the web workers when memory runs out. 0 is the workers' own.
const oomScoreAdj = 300

var ioOf = map[string]string{api.Pipes: runs.IOPipes, api.Terminal: runs.IOTerminal, api.Detached: runs.IOSpool}

// Prepare checks an exec and gets everything ready but the start.
func (l *Launcher) Prepare(ctx context.Context, caller api.Caller, req api.ExecRequest) (
	func(context.Context, runs.Handover) (runs.Run, error), error) {
	if req.User != "" && !caller.Owner {
		return nil, &api.Error{Status: http.StatusForbidden, Exit: command.CodeRefused,
			Message: caller.Login + " may not choose the user", Hint: "only root may: try again with sudo"}
	}
	r := runs.Request{Kind: "exec", Name: path.Base(req.Args[0]), Args: req.Args,
		IO:       ioOf[req.Mode],
		Detached: req.Mode == api.Detached, Size: req.Size,
		Timeout: req.Timeout, Grace: req.Grace, MemoryMax: req.Memory, Lock: req.Lock,
		Caller: runs.Caller{UID: caller.UID, PID: caller.PID, Login: caller.Login}}
	o := appenv.ProfileOptions{User: req.User, AppEnv: req.AppEnv, Dir: req.Dir, Extra: req.Env}
	if err := l.complete(ctx, o, &r); err != nil {
		return nil, refuse(err)
	}
	if req.Mode == api.Terminal {
		r.Idle, r.Timeout = cmp.Or(req.Idle, l.Idle), cmp.Or(req.Timeout, l.Session)
	}
	if req.User != "" {
		r.Meta[runs.MetaChosenUser] = req.User
	}
	if req.Share {
		r.Meta[runs.MetaShared] = "yes"
	}
	if caller.Session != "" {
		r.Meta[runs.MetaLogin] = caller.Session
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

// Begin starts a job's run: r, completed by what o asks for. ended waits for the run's end, and is given with
// runs.ErrExists, too. A lease that the supervisor does not know is left out: whoever renews it gets runs.ErrNoLease.
func (l *Launcher) Begin(ctx context.Context, o appenv.ProfileOptions, r runs.Request) (
	run runs.Run, ended func() (runs.Run, error), err error) {
	if err := l.complete(ctx, o, &r); err != nil {
		return run, nil, fmt.Errorf("start job: %w", err)
	}
	run, ended, err = l.Runs.Begin(ctx, r)
	if errors.Is(err, runs.ErrNoLease) { // one that waits for its last run to end, after an upgrade
		l.Log.Warn("the supervisor is older and keeps no lease: this process alone ends the run when its claim is lost",
			"run", r.ID, "job", r.Name)
		r.Lease, r.LeaseFrom = 0, 0
		run, ended, err = l.Runs.Begin(ctx, r)
	}
	if err == nil {
		l.audit("run started", run, r.Args)
	}
	return run, ended, err
}

// complete fills in what every run has in common.
func (l *Launcher) complete(ctx context.Context, o appenv.ProfileOptions, r *runs.Request) error {
	p, err := l.Profile(ctx, o)
	if err != nil {
		return err
	}
	r.Env, r.Dir, r.Umask = p.Env, p.Dir, cmp.Or(p.Umask, command.NoUmask)
	r.UID, r.GID, r.Groups, r.User = p.User.UID, p.User.GID, p.User.Groups, p.User.Name
	r.OOMScoreAdj, r.NoNewPrivs, r.Version = oomScoreAdj, l.NoNewPrivs, l.Version()
	if r.Meta == nil {
		r.Meta = map[string]string{}
	}
	if host := l.Host(); host != "" {
		r.Meta[runs.MetaHost] = host // not a field of its own: an older supervisor refuses those
	}
	return nil
}

// refuse gives err the exit status that an exec ends with.
func refuse(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	e := &api.Error{Status: http.StatusConflict, Exit: command.CodeRefused, Message: err.Error(),
		Hint: appenv.Hint(err)}
	if r, ok := errors.AsType[*runs.Refused](err); ok {
		e.Exit, e.Hint = r.Code, r.Hint
	}
	return e
}

// audit logs a start with its caller. Arguments may hold secrets, so by default only the program and their number.
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
		first, all := runs.FirstArgs(args, runs.AllArgs{}) // a line of megabytes would push others out of the journal
		if a = append(a, "argv", first); all.Count > 0 {
			a = append(a, "argv_bytes", all.Bytes, "argv_sha256", all.SHA256)
		}
	}
	l.Log.Info(msg, a...)
}
