//go:build unix

package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
)

// runDirect runs the command without any agent, for when the agent itself is broken. The environment, user and
// directory are resolved as the agent would; there is no cgroup, no record and no time limit. Where the user is the
// caller, this process becomes the command.
func (o *execOptions) runDirect(ctx context.Context, g *globals) error {
	cfg, err := g.load(true)
	if err != nil {
		return exitIf(command.CodeRefused, err)
	}
	if o.req.Timeout != 0 || o.req.Memory != 0 || o.req.Lock != "" {
		return misuse(errors.New("--timeout, --memory and --lock need the agent: --direct has none of them"))
	}
	options := appenv.ProfileOptions{User: o.req.User, Dir: o.req.Dir, Extra: o.req.Env}
	p, err := g.Application(ctx, cfg).Env().Profile(ctx, options)
	if err != nil {
		return exitIf(command.CodeRefused, err)
	}
	spec := command.Spec{Args: o.req.Args, Env: p.Env, Dir: p.Dir, Umask: cmp.Or(p.Umask, command.NoUmask)}
	if int(p.User.UID) == os.Geteuid() {
		return startFailure(command.ExecInPlace(spec))
	}
	spec.Cred = &command.Credential{UID: p.User.UID, GID: p.User.GID, Groups: p.User.Groups}
	return g.startAs(ctx, p.User.Name, spec)
}

// startAs runs a command of another user in a session of its own, which has no terminal. A process with a terminal
// can type into it (TIOCSTI), and the shell of the caller, as a rule root's, would obey when the command has ended.
func (g *globals) startAs(ctx context.Context, user string, spec command.Spec) error {
	for i, f := range []*os.File{g.In, g.Out, g.Err} {
		if spec.Files[i] = int(f.Fd()); term.IsTerminal(spec.Files[i]) {
			return exitIf(command.CodeRefused, &api.Error{
				Message: "--direct as " + user + " cannot share this terminal: the command could type into it",
				Hint: "redirect all three: agent exec --direct -- … </dev/null 2>&1 | cat\n" +
					"or run it as that user yourself"})
		}
	}
	if err := command.CloseOnExec(); err != nil {
		return exitIf(command.CodeRefused, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var reaper command.Reaper
	go reaper.Run(ctx)
	signals := make(chan os.Signal, 8)
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // as below nohup
			signal.Notify(signals, s)
		}
	}
	p, err := command.Start(spec, &reaper)
	if err != nil {
		return startFailure(err)
	}
	for {
		select {
		case s := <-signals:
			_ = syscall.Kill(-p.PID, s.(syscall.Signal)) // one that has ended needs none
		case <-p.Done():
			return exitWith(p.Status().Code)
		}
	}
}

func startFailure(err error) error {
	if e, ok := errors.AsType[*command.StartError](err); ok {
		return exitIf(e.Code, e)
	}
	return exitIf(command.CodeRefused, err)
}
