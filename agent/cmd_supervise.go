package main

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/supervisor"
)

// newSuperviseCmd is what agent-runs.service runs; people do not type it. Its
// rules come from flags, in a unit that root owns, and from nowhere else.
func newSuperviseCmd(g *globals) *cobra.Command {
	var cfg supervisor.Config
	c := &cobra.Command{Use: "supervise", Hidden: true, Short: "the parent of every run", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			runtime.GOMAXPROCS(1)
			debug.SetMemoryLimit(16 << 20)
			ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGTERM)
			defer stop()
			cfg.Version, cfg.Logger = buildinfo.Version(), newLog(g.err)
			cfg.Ready = func() { lifecycle.Ready("ready"); debug.FreeOSMemory() }
			err := supervisor.Serve(ctx, cfg)
			if errors.Is(err, supervisor.ErrRetired) {
				slog.New(cfg.Logger.Handler()).Info("retired")
				return nil
			}
			return err
		}}
	f := c.Flags()
	f.StringVar(&cfg.Socket, "socket", "", "where the agent finds this process")
	f.StringVar(&cfg.StateDir, "state", "", "where runs are kept")
	f.StringArrayVar(&cfg.AllowUsers, "allow-user", nil, "a user that runs may have; * for all but root")
	f.StringArrayVar(&cfg.AllowGroups, "allow-group", nil, "a group that runs may have beside their user's own")
	f.BoolVar(&cfg.AllowRoot, "allow-root", os.Geteuid() != 0, "runs may be root's")
	f.DurationVar(&cfg.IdleExit, "idle-exit", 0, "end after so long without agent and runs")
	return c
}
