package supervisor

import (
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/statedir"
	"beanstalk-agent/agent/internal/strictpath"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// lastReplies is how long answers may take that are on their way when the supervisor ends.
const lastReplies = 2 * time.Second

// Serve runs a supervisor until ctx is done, a client asks it to shut down or retire, or IdleExit is reached.
// It then ends every run (TERM, grace, KILL), records how, and returns. *fdconn.InUse reports that another
// supervisor serves the socket. Serve takes over the whole process: signals, children, the main control group.
func Serve(ctx context.Context, cfg Config) error {
	l, err := fdconn.Listen(cfg.Socket, nil)
	if err != nil {
		return err
	}
	l.Admit = fdconn.Peer.Owner
	defer l.Close()
	held, err := lock(cfg.StateDir)
	if err != nil {
		return err
	}
	defer held.Close()
	ctx, quit := context.WithCancelCause(ctx)
	defer quit(nil)
	s, err := newServer(cfg, quit)
	if err != nil {
		return err
	}
	return s.serve(ctx, l)
}

// lock keeps a second supervisor, on another socket, from the runs of this one: it would record those that are
// live as lost, and end them.
func lock(state string) (io.Closer, error) {
	dir := filepath.Join(state, "runs")
	if err := strictpath.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	held, err := statedir.Lock(state, "runs.lock", dir)
	if errors.Is(err, statedir.ErrHeld) {
		return nil, fmt.Errorf("open state: another supervisor keeps its runs in %q", dir)
	}
	return held, err
}

func newServer(cfg Config, quit context.CancelCauseFunc) (*server, error) {
	if cfg.Unit == "" {
		cfg.Unit = "agent-runs.service"
	}
	s := &server{
		cfg: cfg, log: cfg.Logger, reaper: &command.Reaper{}, started: time.Now(), quit: quit,
		live: make(map[string]*live), shown: make(map[string]*live), locks: make(map[string]string),
		changed: make(chan struct{}), over: make(chan struct{}), crowd: newCrowd(),
	}
	var err error
	if s.place, err = command.FindPlace(cfg.Unit); err != nil {
		return nil, err
	}
	if err := errors.Join(command.Subreaper(), command.CloseOnExec()); err != nil {
		s.log.Warn("cannot keep this process and its runs apart", "err", err)
	}
	s.store, err = openStore(filepath.Join(cfg.StateDir, "runs"), cfg.Keep, !s.place.Grouped(), cfg.Logger)
	return s, err
}

func (s *server) serve(ctx context.Context, l *fdconn.Listener) error {
	// Caught, not ignored: an ignored signal would be ignored in every run, too.
	swallow := make(chan os.Signal, 1)
	signal.Notify(swallow, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE)
	defer signal.Stop(swallow)

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	hs := &http.Server{Handler: s.routes(), ConnContext: fdconn.ConnContext,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	var wg sync.WaitGroup
	wg.Go(func() { s.reaper.Run(background) })
	wg.Go(func() { s.watchIdle(ctx) })
	if s.cfg.Watch != nil {
		wg.Go(func() { s.cfg.Watch(background, s.alive) })
	}
	wg.Go(func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.quit(fmt.Errorf("serve %q: %w", s.cfg.Socket, err))
		}
	})
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	<-ctx.Done()
	s.endAll(runs.StoppedShutdown, 0)
	close(s.over)
	shutdownCtx, cancel := context.WithTimeout(background, lastReplies)
	hs.Shutdown(shutdownCtx) // answers that are on their way: that a run was stopped, how it ended
	cancel()
	hs.Close()
	stop()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, errShutdown) {
		return cause
	}
	return nil
}

// alive fails when this process cannot start commands any more. It hangs when this process does.
func (s *server) alive(context.Context) error {
	s.info()
	return s.starts.useless()
}

// watchIdle ends Serve when it is retired and no run is left, or after IdleExit without agent and runs.
// After the last run it gives memory back: a supervisor is idle most of the time.
func (s *server) watchIdle(ctx context.Context) {
	for tidy := time.Duration(0); ; {
		idle, alone, changed := s.idle()
		if idle == retire {
			s.quit(ErrRetired)
			return
		}
		if idle == busy {
			tidy = tidyAfter
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-after(tidy, idle != busy && tidy > 0):
			tidy = 0
			debug.FreeOSMemory()
		case <-after(s.cfg.IdleExit, alone):
			s.log.Info("no agent and no runs", "took", s.cfg.IdleExit)
			s.quit(errShutdown)
			return
		}
	}
}

// tidyAfter is the time without a run before memory is given back: not after each run of a job that runs each second.
const tidyAfter = 5 * time.Second

// after is time.After, or never.
func after(d time.Duration, when bool) <-chan time.Time {
	if !when {
		return nil
	}
	return time.After(d)
}
