package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/statedir"
	"beanstalk-agent/agent/internal/strictpath"
)

// limitRuntime keeps the agent small beside the application: one processor (fewer threads and caches), and a memory
// limit that only a fault would reach. Measured: 1 MB less anonymous memory; a tighter limit or GOGC only costs CPU.
func limitRuntime() {
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(32 << 20)
}

// withDefaults returns the configuration with what flags and this user's place in the system decide.
func (o Options) withDefaults() (config.Config, error) {
	cfg := o.Config
	if o.App != "" {
		dir, err := filepath.Abs(o.App)
		if err != nil {
			return cfg, err
		}
		if info, err := os.Stat(dir); err != nil {
			return cfg, fmt.Errorf("--app: %w", err)
		} else if !info.IsDir() {
			return cfg, fmt.Errorf("--app: %q is not a directory", dir)
		}
		cfg.App.Dir = dir
	}
	if o.Socket != "" {
		cfg.Socket = o.Socket
	}
	if cfg.Socket == "" {
		cfg.Socket = api.DefaultSocket()
	}
	if cfg.StateDir == "" {
		cfg.StateDir = api.DefaultStateDir()
	}
	if err := strictpath.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return cfg, fmt.Errorf("keep state: %w", err)
	}
	return cfg, nil
}

// lockState keeps a second agent, on another socket, from what this one keeps: it would send the same figures and
// start every job again.
func lockState(dir string) (io.Closer, error) {
	held, err := statedir.Lock(dir, "agent.lock", dir)
	if errors.Is(err, statedir.ErrHeld) {
		return nil, &api.Error{Message: "another agent is running with its state in " + dir,
			Hint: "give this one a state_dir of its own (--config)"}
	}
	return held, err
}

// onHangup calls reload at each SIGHUP, until ctx is done.
func onHangup(ctx context.Context, reload func(context.Context) error) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			if err := reload(ctx); err != nil {
				return err
			}
		}
	}
}
