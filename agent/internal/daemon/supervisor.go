package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/buildinfo"
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/supervisor"
)

// systemState is where agent-runs.service keeps its runs.
const systemState = "/var/lib/agent"

// watchdog is asked for by the supervisor itself, not by WatchdogSec= in its unit: systemd 219 puts that in force, from
// the start of the process on, for one of an older version that runs commands and knows no watchdog. It is long, since
// its firing ends all runs.
const watchdog = 3 * time.Minute

// Supervise is the parent of every run, until ctx is done. Its Version, Logger, Ready and Watch are set here.
func Supervise(ctx context.Context, cfg supervisor.Config, log *os.File) error {
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(16 << 20)
	debug.SetGCPercent(25) // each start forks this process: a smaller heap is 0.1 ms, and 2 MB less after many
	cfg.Version, cfg.Logger = buildinfo.Version(), newLog(log)
	cfg.Ready = func() { lifecycle.Ready("ready"); debug.FreeOSMemory() }
	cfg.Ending = lifecycle.Extend
	cfg.Watch = func(ctx context.Context, alive func(context.Context) error) {
		if err := lifecycle.Watchdog(ctx, cfg.Logger, watchdog, alive); err != nil {
			cfg.Logger.Warn("no watchdog", "err", err)
		}
	}
	err := supervisor.Serve(ctx, cfg)
	if errors.Is(err, supervisor.ErrRetired) {
		cfg.Logger.Info("retired")
		return nil
	}
	return err
}

// newSupervisor finds the parent of all runs: agent-runs.service where systemd started us, or where it keeps the runs
// that we would keep, as when somebody starts the agent by hand on an instance; else one of our own, which ends with an
// orderly stop of the agent and survives any other end of it. Its socket is named after the agent's: two agents in one
// directory must not end each other's runs.
//
// user is as whom the application's commands run now.
func newSupervisor(cfg config.Config, user func(context.Context) (appenv.User, error), log *slog.Logger) (
	*runs.Client, launch.Runs, lifecycle.Service, error) {
	started := os.Getenv("NOTIFY_SOCKET") != "" && isDir(filepath.Dir(runs.SystemSocket))
	if started || cfg.StateDir == systemState && answers(runs.SystemSocket) {
		idle := func(context.Context) error { return nil }
		client := &runs.Client{Socket: runs.SystemSocket, Patience: 10 * time.Second}
		return client, client, lifecycle.Service{Name: "supervisor", Run: idle}, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, lifecycle.Service{}, err
	}
	socket := strings.TrimSuffix(cfg.Socket, ".sock") + "-supervisor.sock"
	if err := fdconn.CheckPath(socket); err != nil {
		return nil, nil, lifecycle.Service{}, err
	}
	client := &runs.Client{Socket: socket, Patience: 5 * time.Second}
	l := &localSupervisor{exe: exe, state: cfg.StateDir, user: user, log: log, client: client,
		wake: make(chan struct{}, 1)}
	return client, l, lifecycle.Service{Name: "supervisor", Run: l.run, Grace: 8 * time.Second}, nil
}

// noRuns reports whether there is nothing where the supervisor keeps its runs.
func noRuns(cfg config.Config, client *runs.Client) bool {
	dir := cfg.StateDir
	if client.Socket == runs.SystemSocket {
		dir = systemState
	}
	found, err := os.ReadDir(filepath.Join(dir, "runs"))
	return len(found) == 0 && (err == nil || errors.Is(err, fs.ErrNotExist))
}

// localSupervisor is the parent of all runs where systemd does not own one.
type localSupervisor struct {
	client     *runs.Client
	exe, state string
	user       func(context.Context) (appenv.User, error)
	log        *slog.Logger

	exited <-chan struct{} // closed when the one that was started last has exited
	wake   chan struct{}   // has one when replaced becomes true

	mu       sync.Mutex
	rules    []string // flags of the one that was started last
	adopted  bool     // another one serves, of an earlier agent: its rules are not known
	asked    bool     // the one that serves was asked to end, for one with the rules of now
	replaced bool     // and had no runs
}

// currentRules are the flags that allow runs as the application's user, and as no other. That user may be known only
// later, and may change. Where the agent is not root the supervisor's own rule is enough: runs as its own user.
func (l *localSupervisor) currentRules(ctx context.Context) []string {
	if os.Geteuid() != 0 {
		return nil
	}
	switch u, err := l.user(ctx); {
	case err != nil:
		return nil // a run would be refused for the same reason
	case u.UID == 0:
		return []string{"--allow-root"}
	default:
		rules := []string{"--allow-user", strconv.FormatUint(uint64(u.UID), 10)}
		for _, g := range u.Groups {
			rules = append(rules, "--allow-group", strconv.FormatUint(uint64(g), 10))
		}
		return rules
	}
}

// Start is the client's, under the rules of now.
func (l *localSupervisor) Start(ctx context.Context, r runs.Request, h runs.Handover) (runs.Run, error) {
	if err := l.enforce(ctx); err != nil {
		return runs.Run{}, err
	}
	run, err := l.client.Start(ctx, r, h)
	return run, hintForLocal(err, r)
}

// Begin is the client's, under the rules of now.
func (l *localSupervisor) Begin(ctx context.Context, r runs.Request) (runs.Run, func() (runs.Run, error), error) {
	if err := l.enforce(ctx); err != nil {
		return runs.Run{}, nil, err
	}
	return l.client.Begin(ctx, r)
}

// hintForLocal replaces the hint for agent-runs.service, which is not there.
func hintForLocal(err error, r runs.Request) error {
	if e, ok := errors.AsType[*runs.Refused](err); ok && strings.Contains(e.Hint, "--allow-") {
		e.Hint = "app.user of the configuration says who runs the application's commands; as another user: " +
			"sudo agent exec --direct --user " + r.User + " -- …"
	}
	return err
}

// enforce has a supervisor that was started with other rules replaced, once it has no runs. Until then commands do not
// start: by its rules the application's user of now is another's. One of an earlier agent goes on with its own rules.
func (l *localSupervisor) enforce(ctx context.Context) error {
	rules := l.currentRules(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replaced || l.adopted && l.asked || os.Geteuid() != 0 || !l.adopted && slices.Equal(rules, l.rules) {
		return nil
	}
	info, err := l.client.Retire(ctx)
	l.asked = err == nil
	switch {
	case err != nil:
		return fmt.Errorf("replace the supervisor, since the application's user is another: %w", err)
	case info.Live == 0:
		l.replaced = true
		select {
		case l.wake <- struct{}{}:
		default:
		}
	case !l.adopted:
		return &runs.Refused{Status: http.StatusConflict, Code: command.CodeRefused,
			Message: fmt.Sprintf("the application's user is another now, and %s of the one before goes on",
				api.Count(info.Live, "run")),
			Hint: "agent ps shows them; commands start again when they have ended"}
	}
	return nil
}

// run stands in for systemd: it starts the supervisor, and again when that has died, until ctx is done; then it ends it
// with its runs. One that finds its socket held, by the supervisor of an earlier agent, gives up by itself.
func (l *localSupervisor) run(ctx context.Context) error {
	if err := l.spawn(ctx); err != nil {
		return err
	}
	const seldom = 3 * time.Second // for one that an earlier agent started: its exit is not reported to us
	const soon = 20 * time.Millisecond
	var hurry time.Time // until then one that was asked to end is looked for often
	for look := time.NewTimer(seldom); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			look.Stop()
			continue
		case <-l.wake:
			hurry = time.Now().Add(seldom)
			look.Reset(soon)
			continue
		case <-l.exited:
			l.exited = nil
			look.Reset(time.Second) // and not at once: it may end each time
			if time.Now().Before(hurry) {
				look.Reset(0)
			}
			continue
		case <-look.C:
			look.Reset(seldom)
			if l.exited != nil {
				look.Reset(time.Minute) // only the removal of its socket goes unreported
			}
		}
		if answers(l.client.Socket) {
			if time.Now().Before(hurry) {
				look.Reset(soon)
			} else {
				l.adopt()
			}
			continue
		}
		if l.wasAsked() {
			l.log.Info("the supervisor is started again, for another user's commands")
		} else {
			l.log.Warn("the supervisor is gone and started again; what it ran is lost")
		}
		if err := l.spawn(ctx); err != nil {
			return err
		}
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 7*time.Second)
	defer cancel()
	if err := l.client.Shutdown(limit, 5*time.Second); err != nil {
		return err
	}
	return removed(limit, l.client.Socket)
}

// spawn starts a supervisor in a session of its own, so that a Ctrl-C for the agent does not reach it, without standard
// streams, and without the agent's environment. It may outlive the agent, and ends by itself after a minute without
// agent and runs.
func (l *localSupervisor) spawn(ctx context.Context) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	c := exec.Command(l.exe)
	rules := l.currentRules(ctx)
	c.Args = append([]string{"agent", "supervise", "--socket", l.client.Socket, "--state", l.state,
		"--idle-exit", "60s"}, rules...)
	c.Stdin, c.Stdout, c.Stderr = null, null, null
	c.Env = []string{}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	exited := make(chan struct{})
	go func() { // ends with either process
		defer close(exited)
		c.Wait()
	}()
	l.exited = exited
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rules, l.adopted, l.asked, l.replaced = rules, false, false, false
	return nil
}

// adopt notes that a supervisor serves which is not the one that was started last.
func (l *localSupervisor) adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adopted, l.replaced = l.exited == nil, false
}

func (l *localSupervisor) wasAsked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func answers(socket string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := fdconn.Dial(ctx, socket)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// removed waits until a file is not there any more. A supervisor answers that its runs have ended before it ends
// itself; the next agent's, started meanwhile, would find the socket held and give up.
func removed(ctx context.Context, path string) error {
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
