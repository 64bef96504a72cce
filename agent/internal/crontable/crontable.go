// Package crontable keeps the scheduler's table equal to the application's cron file.
//
// Contract: a changed file, a swapped application tree and a deleted file are
// noticed within Every by stat alone, without any hook. A deleted file is an
// empty table, once two looks in a row found none: a deployment removes the old
// tree, which can take seconds, before it puts the new one in its place. A
// faulty or unreadable one leaves the last good table in force and is told once,
// with every fault. It is tried again each minute: what was wrong may be a
// program that was not there, or a permission.
//
// The file is writable by the application's user while the agent is root, so
// it is opened below the application's directory without following links out of
// it, it must be a regular file, and it has a size limit.
package crontable

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/appfile"
	"beanstalk-agent/scheduler"
)

// MaxSize is the largest cron file that is read; 10,000 jobs take about 1 MB.
const MaxSize = 4 << 20

// Every is how often the file is looked at.
const Every = 5 * time.Second

// loggedFaults is how many faults of a file the log has, a line each.
const loggedFaults = 10

// Kind says how the file stands.
type Kind string

const (
	Absent Kind = "absent"
	Loaded Kind = "loaded"
	Faulty Kind = "faulty" // the last good table stays in force
)

// State is what is known of the file.
type State struct {
	Path  string
	Kind  Kind
	Err   error // of a faulty file: scheduler.Faults, or why it could not be read
	Since time.Time
	Table scheduler.Table // the table in force
}

// Watcher reads the file when it changes. Its fields are set before Run.
type Watcher struct {
	Dir     string   // the application's directory; looked up anew each time
	Files   []string // relative to Dir; the first that exists is the cron file
	Options func() scheduler.ParseOptions
	Apply   func(scheduler.Table) // called with each new table, never twice at a time
	Where   func() string         // the environment's name, "" while it is not known; optional
	Held    func() bool           // reports whether a deployment is under way, in which no file counts as deleted; optional
	Log     *slog.Logger

	mu    sync.Mutex
	state State
	seen  fs.FileInfo // of the file as last read; nil when absent
	where string      // as of the last refresh
	away  bool        // it was not there at the last look, which did not believe it yet
}

// Run looks at once and then at every multiple of Every, when the samplers wake the
// processor anyway, until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTimer(0)
	defer tick.Stop()
	<-tick.C
	for n := 1; ; n++ {
		w.look(false)
		if n%12 == 0 {
			w.refresh()
		}
		tick.Reset(time.Until(time.Now().Truncate(Every).Add(Every)))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh applies the table in force again when it asks the application's
// environment (enabled: ${NAME}), which changes without the file, or when that
// environment's name is another or known only now; and tries a faulty file again.
func (w *Watcher) refresh() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Kind == Faulty {
		w.retry()
	}
	where := w.where
	if w.Where != nil {
		w.where = w.Where()
	}
	asks := func(j scheduler.Job) bool {
		return strings.Contains(j.Enabled, "${") || len(j.Environments) > 0 && w.where != where
	}
	if slices.ContainsFunc(w.state.Table.Jobs, asks) {
		w.Apply(w.state.Table)
	}
}

// Reload reads the file now, changed or not.
func (w *Watcher) Reload() State {
	w.look(true)
	return w.State()
}

// State returns what is known of the file now.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *Watcher) look(force bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name, info := w.find()
	if !force && w.state.Kind != "" && same(w.seen, info) && w.state.Path == filepath.Join(w.Dir, name) {
		w.away = false
		return
	}
	if info == nil && !force && w.state.Kind != "" && (!w.away || w.Held != nil && w.Held()) {
		w.away = true
		return
	}
	w.seen, w.away = info, false
	w.state.Path = filepath.Join(w.Dir, name)
	w.state.Since = time.Now()
	if info == nil {
		w.absent()
		return
	}
	table, err := w.read(name)
	if err != nil {
		w.fault(err)
		return
	}
	w.take(table)
}

func (w *Watcher) fault(err error) {
	w.state.Kind, w.state.Err = Faulty, err
	faults, _ := errors.AsType[scheduler.Faults](err)
	if len(faults) == 0 {
		w.Log.Error("cron file not taken, the last good one stays in force", "file", w.state.Path, "err", err)
		return
	}
	w.Log.Error("cron file not taken, the last good one stays in force: agent cron check shows all that is wrong", "file", w.state.Path, "faults", len(faults))
	for _, f := range faults[:min(len(faults), loggedFaults)] {
		w.Log.Error("cron file", "fault", f.String()) // without the excerpt
	}
}

func (w *Watcher) take(table scheduler.Table) {
	w.state.Kind, w.state.Err, w.state.Table = Loaded, nil, table
	w.Log.Info("cron file loaded", "file", w.state.Path, "jobs", len(table.Jobs))
	w.Apply(table)
}

// retry reads a faulty file that has not changed.
func (w *Watcher) retry() {
	name, info := w.find()
	if !same(w.seen, info) {
		return // look's
	}
	table, err := w.read(name)
	switch {
	case err == nil:
		w.take(table)
	case err.Error() != w.state.Err.Error():
		w.fault(err)
	}
}

func (w *Watcher) absent() {
	if w.state.Kind == Loaded || w.state.Kind == Faulty {
		w.Log.Info("cron file is gone: no jobs", "file", w.state.Path)
	}
	w.state.Kind, w.state.Err, w.state.Table = Absent, nil, scheduler.Table{}
	w.Apply(w.state.Table)
}

// find returns the first of Files that exists, or the first with no info.
func (w *Watcher) find() (string, fs.FileInfo) {
	for _, name := range w.Files {
		if info, err := os.Stat(filepath.Join(w.Dir, name)); err == nil {
			return name, info
		}
	}
	return w.Files[0], nil
}

func (w *Watcher) read(name string) (scheduler.Table, error) {
	data, err := appfile.Read(w.Dir, name, MaxSize)
	if err != nil {
		return scheduler.Table{}, err
	}
	return scheduler.Parse(name, data, w.Options())
}

// same reports whether a and b are the same unchanged file. A file written in
// place within one clock tick to the same size is not noticed until its next
// change, which editors and deployments, that write a new file, do not do.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
