package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/runs"
)

// systemState is where agent-runs.service keeps its runs.
const systemState = "/var/lib/agent"

// connectSupervisor finds the parent of all runs: agent-runs.service where
// systemd started us, or where it keeps the runs that we would keep, as when
// somebody starts the agent by hand on an instance; else one of our own, which
// ends with an orderly stop of the agent and survives any other end of it. Its
// socket is named after the agent's: two agents in one directory must not end
// each other's runs.
func connectSupervisor(cfg config.Config, log *slog.Logger) (*runs.Client, lifecycle.Service, error) {
	system := &runs.Client{Socket: runs.SystemSocket, Patience: 10 * time.Second}
	if os.Getenv("NOTIFY_SOCKET") != "" && isDir(filepath.Dir(runs.SystemSocket)) || cfg.StateDir == systemState && answers(runs.SystemSocket) {
		return system, lifecycle.Service{Name: "supervisor", Run: func(context.Context) error { return nil }}, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, lifecycle.Service{}, err
	}
	l := &localSupervisor{exe: exe, state: cfg.StateDir, log: log,
		client: &runs.Client{Socket: strings.TrimSuffix(cfg.Socket, ".sock") + "-supervisor.sock", Patience: 5 * time.Second}}
	return l.client, lifecycle.Service{Name: "supervisor", Run: l.run, Grace: 8 * time.Second}, l.spawn()
}

// localSupervisor is the parent of all runs where systemd does not own one.
type localSupervisor struct {
	client     *runs.Client
	exe, state string
	log        *slog.Logger

	ended <-chan struct{} // closed when the one that was started last has ended
}

// spawn starts it; it gives up by itself where another holds its socket.
func (l *localSupervisor) spawn() (err error) {
	l.ended, err = launch.Spawn(l.exe, []string{"--socket", l.client.Socket, "--state", l.state, "--idle-exit", "60s", "--allow-user", "*", "--allow-root"})
	return err
}

// run stands in for systemd: it starts the supervisor again when it has died,
// until ctx is done, and then ends it with its runs.
func (l *localSupervisor) run(ctx context.Context) error {
	const seldom = 3 * time.Second // for one that an earlier agent started: its end is told to nobody
	for look := time.NewTimer(seldom); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			look.Stop()
			continue
		case <-l.ended:
			l.ended = nil
			look.Reset(time.Second) // and not at once: it may end each time
			continue
		case <-look.C:
			look.Reset(seldom)
			if l.ended != nil {
				look.Reset(time.Minute) // only its socket may be taken away unheard
			}
		}
		if answers(l.client.Socket) {
			continue
		}
		l.log.Warn("the supervisor is gone and started again; what it ran is lost")
		if err := l.spawn(); err != nil {
			return err
		}
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 7*time.Second)
	defer cancel()
	if err := l.client.Shutdown(limit, 5*time.Second); err != nil {
		return err
	}
	return gone(limit, l.client.Socket)
}

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// gone waits until a file is not there any more. A supervisor answers that its
// runs have ended before it ends itself; the next agent's, started meanwhile,
// would find the socket held and give up.
func gone(ctx context.Context, path string) error {
	for {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still there: %w", path, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
