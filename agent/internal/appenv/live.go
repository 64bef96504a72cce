package appenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/collectors/procread"
)

// ErrNoWeb: there is no live web process to compare with.
var ErrNoWeb = errors.New("no web process is running")

// ofOneProcess are variables that describe a single process and so always differ: those that systemd sets for one start
// of one service (systemd.exec(5), "Environment variables set or propagated by the service manager"), that a shell
// sets, and that gunicorn passes to its successor. A run never gets them, and Diff ignores them.
var ofOneProcess = []string{
	"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "MAINPID", "MANAGERPID", "MANAGERPIDFDID", "PIDFILE",
	"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "FDSTORE",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES", "REMOTE_ADDR", "REMOTE_PORT",
	"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	"CREDENTIALS_DIRECTORY",
	"SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS", "MONITOR_SERVICE_RESULT", "MONITOR_EXIT_CODE", "MONITOR_EXIT_STATUS",
	"MONITOR_INVOCATION_ID", "MONITOR_UNIT", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "LOG_NAMESPACE",
	"TRIGGER_UNIT", "TRIGGER_PATH", "TRIGGER_TIMER_REALTIME_USEC", "TRIGGER_TIMER_MONOTONIC_USEC",
	"_", "SHLVL", "PWD", "OLDPWD",
	"GUNICORN_PID", "GUNICORN_FD", "SERVER_SOFTWARE",
}

// errOverwritten: libraries that set a process's title (setproctitle) overwrite the memory behind /proc/PID/environ.
var errOverwritten = errors.New("its environment is overwritten by a process title")

// maxEnvironVars is far above what a process has. Any process can name other memory of its own, of any size, as its
// environment (PR_SET_MM_MAP of prctl(2)).
const maxEnvironVars = 10_000

// How long one process, and all of them, may take to tell their environment. It is there at once unless the process
// withholds it.
const (
	environTime  = 2 * time.Second
	environsTime = 5 * time.Second
)

// readEnviron returns the environment that process pid was started with.
func (r *Resolver) readEnviron(ctx context.Context, pid int) ([]Var, error) {
	ctx, cancel := context.WithTimeout(ctx, environTime)
	defer cancel()
	name := filepath.Join(r.path("/proc"), strconv.Itoa(pid), "environ")
	var data []byte
	var err error
	silent := procread.Do(ctx, pid, procread.Web, func() {
		data, err = readLimited(name, maxEnviron+1)
	})
	if silent != nil {
		return nil, readError(name, silent)
	}
	if err != nil {
		return nil, readError(name, err)
	}
	if vars := bytes.Count(data, []byte{0}); len(data) > maxEnviron || vars > maxEnvironVars {
		return nil, readError(name, fmt.Errorf("more than %d bytes or %d variables", maxEnviron, maxEnvironVars))
	}
	return parseEnviron(data)
}

// readLimited returns the first bytes of a file that only root can create.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// parseEnviron reads /proc/PID/environ: NUL-terminated NAME=value strings.
func parseEnviron(data []byte) ([]Var, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var vars []Var
	for s := range bytes.SplitSeq(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		name, value, ok := strings.Cut(string(s), "=")
		// systemd sets only such names, so a first name of another form is a title.
		if !ok || name == "" || len(vars) == 0 && !isVariableName(name) {
			return nil, errOverwritten
		}
		vars = append(vars, NewVar(name, value))
	}
	return merge(vars), nil
}

// live adds the environment of the first web process that has one.
func (r *Resolver) live(ctx context.Context, env *Env) error {
	pids, err := r.webPIDs(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, environsTime)
	defer cancel()
	var errs []error
	for _, pid := range pids {
		name := fmt.Sprintf("web process %d", pid)
		vars, err := r.readEnviron(ctx, pid)
		if err == nil && len(vars) > 0 {
			vars = slices.DeleteFunc(vars, func(v Var) bool { return slices.Contains(ofOneProcess, v.Name) })
			env.add(name, File{Vars: vars})
			env.setTheirs(name, true)
			return nil
		}
		if err == nil {
			err = errors.New("its environment is empty")
		}
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
		env.skip(name, reason(err))
	}
	return errors.Join(errs...)
}

func (r *Resolver) webPIDs(ctx context.Context) ([]int, error) {
	if r.cfg.WebPIDs == nil {
		return nil, ErrNoWeb
	}
	pids, err := r.cfg.WebPIDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the web process: %w", err)
	}
	if len(pids) == 0 {
		return nil, ErrNoWeb
	}
	return pids, nil
}
