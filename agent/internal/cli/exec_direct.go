//go:build unix

package cli

import (
	"cmp"
	"context"
	"errors"
	"os"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
)

// runDirect runs the command without any agent, for when the agent itself is broken. The environment, user and
// directory are resolved as the agent would; there is no cgroup, no record and no time limit.
//
// Where the user is the caller, this process becomes the command: it needs no protection from itself, and could open
// its own terminal anyway. Another user's command is our child, in a session and on a terminal of its own.
func (o *execOptions) runDirect(ctx context.Context, g *globals) error {
	cfg, err := g.load(true)
	if err != nil {
		return exitIf(command.CodeRefused, err)
	}
	if r := o.req; r.Timeout != 0 || r.Memory != 0 || r.Lock != "" || r.Idle != 0 || r.Grace != 0 {
		return misuse(errors.New(
			"--timeout, --grace, --idle, --memory and --lock need the agent: --direct has none of them"))
	}
	options := appenv.ProfileOptions{User: o.req.User, AppEnv: o.req.AppEnv, Dir: o.req.Dir, Extra: o.req.Env}
	p, err := g.Application(ctx, cfg).Env().Profile(ctx, options)
	if err != nil {
		return exitIf(command.CodeRefused, &api.Error{Message: err.Error(), Hint: appenv.Hint(err)})
	}
	umask := cmp.Or(p.Umask, command.NoUmask)
	if int(p.User.UID) == os.Geteuid() && !o.noTTY {
		return startFailure(command.ExecInPlace(command.Spec{Args: o.req.Args, Env: p.Env, Dir: p.Dir, Umask: umask}))
	}
	return g.startAs(ctx, runs.Request{Args: o.req.Args, Env: p.Env, Dir: p.Dir, Umask: umask, Size: g.size(),
		UID: p.User.UID, GID: p.User.GID, Groups: p.User.Groups,
		IO: o.req.Mode}) // pipes or terminal, the same words
}

// startAs runs a command of another user from this process.
func (g *globals) startAs(ctx context.Context, req runs.Request) error {
	var files []int
	if req.IO == runs.IOPipes {
		files = []int{int(g.In.Fd()), int(g.Out.Fd()), int(g.Err.Fd())}
	}
	o := session.Options{Stdin: g.In, Stdout: g.Out, Stderr: g.Err}
	conn, err := session.Local(func(conn *os.File, files []int) (err error) {
		o.Child, err = g.Direct(req, conn, files)
		return err
	}, files...)
	if err != nil {
		return startFailure(err)
	}
	code, err := conn.Run(ctx, o)
	return exitIf(code, err)
}

func startFailure(err error) error {
	if e, ok := errors.AsType[*command.StartError](err); ok {
		return exitIf(e.Code, e)
	}
	return exitIf(command.CodeRefused, err)
}
