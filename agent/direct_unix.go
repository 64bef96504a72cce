//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/platform"
)

// runDirect becomes the command without any agent: for the night the agent
// itself is broken. The environment, user and directory are resolved as the
// agent would; there is no cgroup, no record and no time limit.
func (o *execOptions) runDirect(ctx context.Context, g *globals) error {
	cfg, err := g.load(true)
	if err != nil {
		return exitIf(command.CodeRefused, err)
	}
	if o.req.Timeout != 0 || o.req.Memory != 0 || o.req.Lock != "" {
		return misuse(errors.New("--timeout, --memory and --lock need the agent: --direct has none of them"))
	}
	inst := platform.NewInstance(ctx, platformOptions(cfg))
	p, err := appenv.New(envConfig(cfg, inst)).Profile(ctx, appenv.ProfileOptions{User: o.req.User, Dir: o.req.Dir, Extra: o.req.Env})
	if err != nil {
		return exitIf(command.CodeRefused, err)
	}
	err = command.ExecInPlace(command.Spec{Args: o.req.Args, Env: p.Env, Dir: p.Dir, Umask: cmp.Or(p.Umask, command.NoUmask),
		Cred: &command.Credential{UID: p.User.UID, GID: p.User.GID, Groups: p.User.Groups}})
	if e, ok := errors.AsType[*command.StartError](err); ok {
		return exitIf(e.Code, e)
	}
	return exitIf(command.CodeRefused, err)
}
