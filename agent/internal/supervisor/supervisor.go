// Package supervisor is the parent of every run: a second, tiny process that outlives the agent's restarts.
//
// Contract. Serve listens on a socket that only the agent's own user may use, starts what it is asked to
// within its own rules, owns terminals, spools and control groups, and writes how each run ended before it
// tells anybody. It reads no configuration and no environment file and speaks to no network. A client
// whose connection the agent handed over is answered on that connection; package session says how.
//
// What outlives what: the agent may end in any way and come back, runs do not notice. If this process is
// killed, systemd ends what is left of the runs, and the next supervisor records them as lost, by name.
//
// On disk, below Config.StateDir: runs/ID/meta.json (written at the start), output (a spool, if any) and
// status.json (written at the end, whole: a run that has one needs nothing else). One that is torn counts as
// not written; see store.write.
package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/fdconn"
)

// Config says where a supervisor serves and what it allows.
type Config struct {
	Socket   string       // required: made with mode 0600; its directory must exist
	StateDir string       // required: made with mode 0700
	Version  string       // required: of this binary
	Logger   *slog.Logger `json:"-"` // required

	Unit string // the systemd unit that delegates its control group to us; empty: "agent-runs.service"

	// AllowUsers are the names or numbers of users that runs may have, "*" for all but root. It only
	// matters when this process is root; otherwise runs have its own user. Names are looked up at each
	// start, since the application's user may be made later than this process.
	AllowUsers []string
	AllowRoot  bool // runs as root, too

	// AllowGroups are groups that runs may have beside their user's own.
	AllowGroups []string

	Keep Keep // zero values: see there

	IdleExit time.Duration // end by itself after so long without agent and runs; 0: never
	Ready    func()        `json:"-"` // called once, when the socket answers; may be nil
}

// stopGrace is what runs get between TERM and KILL unless they say otherwise, DESIGN §5.
const stopGrace = 5 * time.Second

// shutdownGrace is the most that a run gets when the supervisor itself ends: TimeoutStopSec= of the unit
// must be longer, or systemd kills before we have written how runs ended.
const shutdownGrace = 30 * time.Second

// lastReplies is how long answers may take that are on their way when the supervisor ends.
const lastReplies = 2 * time.Second

// ErrRetired is returned by Serve when it ended for a newer supervisor to take over.
var ErrRetired = errors.New("retired: a newer supervisor takes over")

// server is one supervisor at work.
type server struct {
	cfg     Config
	log     *slog.Logger
	place   *command.Place
	reaper  *command.Reaper
	store   *store
	started time.Time
	quit    context.CancelCauseFunc // ends Serve

	work sync.WaitGroup // one for each live run, until all of it is gone
	over chan struct{}  // closed once there are no runs and will be none: event streams end

	mu       sync.Mutex
	live     map[string]*live
	shown    map[string]*terminal // by run: from its beginning until its last output is delivered or on disk
	locks    locks
	agents   int  // open event streams
	retiring bool // end with the last run
	closing  bool // no new runs
	changed  chan struct{}
}

// Serve runs a supervisor until ctx is done, it is told to shut down or retire, or IdleExit is reached.
// It then ends every run, TERM, grace, KILL, records how, and returns. *fdconn.InUse reports that another
// one serves the socket. It takes over the whole process: signals, children, the main control group.
func Serve(ctx context.Context, cfg Config) error {
	l, err := fdconn.Listen(cfg.Socket, 0o600)
	if err != nil {
		return err
	}
	defer l.Close()
	held, err := hold(filepath.Join(cfg.StateDir, "runs"))
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

// hold keeps a second supervisor, on another socket, from the runs of this one: it would take those that
// are live for lost and end them. The kernel gives the directory free with its holder.
func hold(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("open state: another supervisor keeps its runs in %q", dir)
	}
	return f, nil // where the file system knows no locks, without one
}

func newServer(cfg Config, quit context.CancelCauseFunc) (*server, error) {
	if cfg.Unit == "" {
		cfg.Unit = "agent-runs.service"
	}
	s := &server{
		cfg: cfg, log: cfg.Logger, reaper: &command.Reaper{}, started: time.Now(), quit: quit,
		live: make(map[string]*live), shown: make(map[string]*terminal), changed: make(chan struct{}), over: make(chan struct{}),
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
	hs := &http.Server{Handler: s.routes(), ConnContext: fdconn.ConnContext, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
	var wg sync.WaitGroup
	wg.Go(func() { s.reaper.Run(background) })
	wg.Go(func() { s.watchIdle(ctx) })
	wg.Go(func() {
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.quit(fmt.Errorf("serve %q: %w", s.cfg.Socket, err))
		}
	})
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	<-ctx.Done()
	s.endAll("shutdown", 0)
	close(s.over)
	lastWords, cancel := context.WithTimeout(background, lastReplies)
	hs.Shutdown(lastWords) // answers that are on their way: that a run was stopped, how it ended
	cancel()
	hs.Close()
	stop()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, errShutdown) {
		return cause
	}
	return nil
}

var errShutdown = errors.New("told to shut down")

// endAll refuses new runs and ends those that there are, all at once. It returns when they are gone.
func (s *server) endAll(by string, grace time.Duration) {
	s.mu.Lock()
	s.closing = true
	for _, l := range s.live {
		l.stop(by, cmp.Or(grace, min(l.grace, shutdownGrace)))
	}
	s.mu.Unlock()
	s.work.Wait()
}

// watchIdle ends Serve when nobody needs it: retired and no run left, or IdleExit without agent and runs.
// When the last run has ended it gives memory back: a supervisor idles for most of its life.
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

// tidyAfter is how long no run lasts before memory is given back: a job each second must not have it each
// time.
const tidyAfter = 5 * time.Second

// after is time.After, or never.
func after(d time.Duration, when bool) <-chan time.Time {
	if !when {
		return nil
	}
	return time.After(d)
}

type idleness int

const (
	busy idleness = iota
	idle
	retire
)

// idle tells whether there are runs, whether IdleExit counts, and what to wait for. From retire on nothing
// is started any more, or it might be started and lost.
func (s *server) idle() (now idleness, alone bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.live) > 0:
	case s.retiring:
		now, s.closing = retire, true
	default:
		now, alone = idle, s.agents == 0 && s.cfg.IdleExit > 0
	}
	return now, alone, s.changed
}

// changedLocked wakes whoever waits for a change of runs, agents or events.
func (s *server) changedLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
