//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

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
	if err := become(p); err != nil {
		return exitIf(command.CodeRefused, err)
	}
	path, err := lookPath(o.req.Args[0], p.Env)
	if err != nil {
		return exitIf(command.CodeNotFound, err)
	}
	err = syscall.Exec(path, o.req.Args, p.Env)
	return exitIf(command.CodeNotExec, fmt.Errorf("run %q: %w", path, err))
}

// become gives up root for the application's user: groups first, uid last.
func become(p appenv.Profile) error {
	u := p.User
	if int(u.UID) != os.Geteuid() {
		if os.Geteuid() != 0 {
			return fmt.Errorf("only root can become %s: try again with sudo", u.Name)
		}
		groups := make([]int, len(u.Groups))
		for i, g := range u.Groups {
			groups[i] = int(g)
		}
		if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(int(u.GID)), syscall.Setuid(int(u.UID))); err != nil {
			return fmt.Errorf("become %s: %w", u.Name, err)
		}
	}
	unix.Umask(p.Umask)
	return os.Chdir(p.Dir)
}

// lookPath finds name in the PATH of env, not in our own.
func lookPath(name string, env appenv.Environ) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	search, _ := env.Lookup("PATH")
	for _, dir := range filepath.SplitList(search) {
		path, err := filepath.Abs(filepath.Join(dir, name)) // become has changed to the run's directory
		if err != nil {
			return "", err
		}
		if path, err = exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
