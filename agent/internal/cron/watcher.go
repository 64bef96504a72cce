package cron

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/appenv"
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

// fileState is what is known of the file.
type fileState struct {
	Path  string
	Kind  Kind
	Err   error // of a faulty file: scheduler.Faults, or why it could not be read
	Since time.Time
	Table scheduler.Table // the table in force

	Writer appenv.Writer // of Table
}

// watcher keeps the scheduler's table equal to the application's cron file.
//
// A changed file, a swapped application tree and a deleted file are noticed within Every by stat alone, without any
// hook. A deleted file is an empty table, once two looks in a row found none: a deployment removes the old tree, which
// can take seconds, before it puts the new one in its place. A faulty or unreadable file leaves the last good table in
// force and is logged once, with every fault. It is tried again each minute: the fault may be a program that was not
// there, or a permission.
//
// The file is writable by the application's user while the agent is root, so it is opened below the application's
// directory without following links out of it, it must be a regular file, and it has a size limit.
type watcher struct {
	Dir     string   // the application's directory; looked up anew each time
	Files   []string // relative to Dir; the first that exists is the cron file
	Options func() scheduler.ParseOptions
	Apply   func(scheduler.Table) // called with each new table, which State has already; never twice at a time
	Where   func() string         // the environment's name and process type, as far as they are known; optional
	Held    func() bool           // reports whether a deployment is going on: no file counts as deleted; optional
	Judged  func(string, error)   // called when a file, by its name, has other faults than before, or none; optional
	Log     *slog.Logger

	// Writer says whose word a file is that was opened by that name. Optional.
	Writer func(name string, opened fs.FileInfo) appenv.Writer

	looking sync.Mutex    // one look at a time; guards the next four
	seen    fs.FileInfo   // of the file as last read; nil when absent
	writer  appenv.Writer // of the file as last read
	where   string        // as of the last table or refresh
	away    bool          // the last look found no file, and left it at that

	mu    sync.Mutex // never held while a file is read or a table applied, which may take seconds
	state fileState
}

// Run looks at once and then at every multiple of Every, when the samplers wake the
// processor anyway, until ctx is done.
func (w *watcher) Run(ctx context.Context) error {
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

// Reload reads the file now, changed or not.
func (w *watcher) Reload() fileState {
	w.look(true)
	return w.State()
}

// State returns what is known of the file now.
func (w *watcher) State() fileState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *watcher) set(st fileState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = st
}

func (w *watcher) look(force bool) {
	w.looking.Lock()
	defer w.looking.Unlock()
	st := w.State()
	name, info := w.find()
	path := filepath.Join(w.Dir, name)
	if !force && st.Kind != "" && same(w.seen, info) && st.Path == path && w.by(name, info) == w.writer {
		w.away = false
		return
	}
	if info == nil && !force && st.Kind != "" && (!w.away || w.Held != nil && w.Held()) {
		w.away = true
		return
	}
	w.seen, w.writer, w.away = info, w.by(name, info), false
	st.Path, st.Since = path, time.Now()
	if info == nil {
		w.absent(st)
		return
	}
	w.took(st, name)
}

// took reads the file and takes its table, if that can be; faulty jobs are left out, and reported.
func (w *watcher) took(st fileState, name string) {
	table, err := w.read(name)
	if err == nil || table.Partial {
		w.take(st, table)
		st = w.State()
	}
	if err != nil {
		w.fault(st, err, table.Partial)
	}
}

// refresh applies the table in force again when it depends on the application's environment (enabled: ${NAME}), which
// changes without the file, or when the environment's name or process type is another or known only now; and tries a
// faulty file again.
func (w *watcher) refresh() {
	w.looking.Lock()
	defer w.looking.Unlock()
	if w.State().Kind == Faulty {
		w.retry()
	}
	where := w.where
	if w.Where != nil {
		w.where = w.Where()
	}
	depends := func(j scheduler.Job) bool { return strings.Contains(j.Enabled, "${") || w.where != where }
	if table := w.State().Table; slices.ContainsFunc(table.Jobs, depends) {
		w.Apply(table)
	}
}

// retry reads a faulty file that has not changed.
func (w *watcher) retry() {
	name, info := w.find()
	if !same(w.seen, info) {
		return // look's
	}
	st := w.State()
	if _, err := w.read(name); err == nil || err.Error() != st.Err.Error() {
		w.took(st, name)
	}
}

func (w *watcher) take(st fileState, table scheduler.Table) {
	if st.Kind == Faulty && !table.Partial && w.Judged != nil {
		w.Judged(filepath.Base(st.Path), nil)
	}
	st.Kind, st.Err, st.Table, st.Writer = Loaded, nil, table, w.writer
	if w.Where != nil {
		w.where = w.Where()
	}
	w.set(st)
	w.Log.Info("cron file loaded", "file", st.Path, "jobs", len(table.Jobs))
	w.Apply(table)
}

func (w *watcher) absent(st fileState) {
	if st.Kind == Loaded || st.Kind == Faulty {
		w.Log.Info("cron file is gone: no jobs", "file", st.Path)
	}
	st.Kind, st.Err, st.Table, st.Writer = Absent, nil, scheduler.Table{}, appenv.Writer{}
	w.set(st)
	w.Apply(st.Table)
}

func (w *watcher) fault(st fileState, err error, partial bool) {
	st.Kind, st.Err = Faulty, err
	w.set(st)
	text := "cron file not taken, the last good one stays in force"
	if partial {
		text = "faulty jobs of the cron file are left out, the others run"
	}
	if w.Judged != nil {
		w.Judged(filepath.Base(st.Path), err)
	}
	faults, _ := errors.AsType[scheduler.Faults](err)
	if len(faults) == 0 {
		w.Log.Error(text, "file", st.Path, "err", err)
		return
	}
	w.Log.Error(text+": agent cron check shows all that is wrong", "file", st.Path, "faults", len(faults))
	for _, f := range faults[:min(len(faults), loggedFaults)] {
		w.Log.Error("cron file", "fault", f.String()) // without the excerpt
	}
}

// find returns the first of Files that exists, or the first with no info.
func (w *watcher) find() (string, fs.FileInfo) {
	for _, name := range w.Files {
		if info, err := appfile.Stat(w.Dir, name); err == nil {
			return name, info
		}
	}
	return w.Files[0], nil
}

// ignored says which files beside the cron file look like one and are not read.
func (w *watcher) ignored() (notes []string) {
	read, info := w.find()
	if info == nil {
		read = ""
	}
	for _, name := range w.Files {
		if yml := strings.TrimSuffix(name, ".yaml") + ".yml"; yml != name+".yml" && w.has(yml) {
			notes = append(notes, fmt.Sprintf("%s is not read: it must be called %s", yml, name))
		}
		if name != read && read != "" && w.has(name) {
			notes = append(notes, fmt.Sprintf("%s is not read, since there is a %s", name, read))
		}
		for _, other := range otherNames[name] {
			if read == "" && w.has(other) {
				notes = append(notes, fmt.Sprintf("%s is not read: it must be called %s", other, name))
			}
		}
	}
	return notes
}

// otherNames are what public repositories call such files. Beside one that is read they are somebody else's.
var otherNames = map[string][]string{
	"cron.yaml": {"Cron.yaml", "cron.YAML", "crontab.yaml"},
	"crontab":   {"Crontab", ".crontab", "crontab.txt", "crontab.conf", "config/crontab", "docker/crontab"},
}

func (w *watcher) has(name string) bool {
	_, err := appfile.Stat(w.Dir, name)
	return err == nil
}

// read returns the file's table, each job with the file's writer as its Source: a job may start, or be tried again,
// when the file has been replaced by another user's.
func (w *watcher) read(name string) (scheduler.Table, error) {
	data, opened, err := appfile.Read(w.Dir, name, MaxSize)
	if err != nil {
		return scheduler.Table{}, err
	}
	w.writer = w.by(name, opened)
	table, err := scheduler.Parse(name, data, w.Options())
	var source any = w.writer // one value for all of them
	for i := range table.Jobs {
		table.Jobs[i].Source = source
	}
	return table, err
}

func (w *watcher) by(name string, opened fs.FileInfo) appenv.Writer {
	if w.Writer == nil || opened == nil {
		return appenv.Writer{}
	}
	return w.Writer(name, opened)
}

// same reports whether a and b are the same unchanged file. A file written in place within one clock tick to the same
// size is not noticed until its next change; editors and deployments write a new file.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
