package cron

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

const good = "version: 1\ncron:\n  - {name: hello, command: echo hi, schedule: '* * * * *', env: {TOKEN: planted-5c1e}}\n"

func newWatcher(t *testing.T) (w *watcher, applied *[]int, log *bytes.Buffer) {
	applied, log = new([]int), new(bytes.Buffer)
	return &watcher{
		Dir:     filepath.Join(t.TempDir(), "current"),
		Files:   []string{"cron.yaml", "crontab"},
		Options: func() scheduler.ParseOptions { return scheduler.ParseOptions{} },
		Apply:   func(t scheduler.Table) { *applied = append(*applied, len(t.Jobs)) },
		Log:     planted.Log(t, log),
	}, applied, log
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The life of a file: absent, loaded, faulty (the last good table stays),
// swapped with its tree, deleted (an empty table).
func TestLifeOfAFile(t *testing.T) {
	w, applied, log := newWatcher(t)
	step := func(what string, want Kind, wantApplied ...int) {
		t.Helper()
		*applied = nil
		w.look(false)
		if w.State().Kind != want {
			t.Fatalf("%s: %s, want %s: %v", what, w.State().Kind, want, w.State().Err)
		}
		if len(*applied) != len(wantApplied) || len(wantApplied) > 0 && (*applied)[0] != wantApplied[0] {
			t.Errorf("%s: applied tables of %v jobs, want %v", what, *applied, wantApplied)
		}
	}
	step("before the first deployment", Absent, 0)
	step("unchanged", Absent)
	path := filepath.Join(w.Dir, "cron.yaml")
	put(t, path, good)
	step("written", Loaded, 1)
	step("unchanged", Loaded)
	put(t, path, "timezone: Mars/Base\n"+good)
	step("faulty", Faulty)
	if len(w.State().Table.Jobs) != 1 {
		t.Error("the last good table is not in force")
	}
	if n := strings.Count(log.String(), "not taken"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if !strings.Contains(log.String(), `faults=1`) || !strings.Contains(log.String(), `fault="cron.yaml:`) || strings.Contains(log.String(), "^") {
		t.Errorf("want each fault on a line of its own, without its excerpt: %s", log)
	}
	if err := os.Rename(w.Dir, w.Dir+".old"); err != nil { // as a deployment does
		t.Fatal(err)
	}
	put(t, path, good+"  - {name: two, command: 'true', schedule: '@hourly'}\n")
	step("swapped tree", Loaded, 2)
	os.Remove(path)
	step("away, which it is in a deployment, too", Loaded)
	put(t, path, good)
	step("back", Loaded, 1)
	os.Rename(path, path+".old")
	step("away", Loaded)
	os.Rename(path+".old", path)
	step("back as it was", Loaded)
	os.Remove(path)
	w.Held = func() bool { return true }
	step("away", Loaded)
	step("away in a long deployment", Loaded)
	w.Held = nil
	step("deleted", Absent, 0)
	step("still deleted", Absent)
	put(t, filepath.Join(w.Dir, "crontab"), "* * * * * true\n")
	step("a plain crontab instead", Loaded, 1)
}

// What a faulty file lacked may come without the file's changing: a program is
// made executable, a permission given. Until then nothing is told again.
func TestFaultyFileIsTriedAgain(t *testing.T) {
	w, applied, log := newWatcher(t)
	missing := errors.New("no such program, or it is not executable")
	w.Options = func() scheduler.ParseOptions {
		return scheduler.ParseOptions{CheckCommand: func(string) error { return missing }}
	}
	var judged []error
	w.Judged = func(file string, err error) { judged = append(judged, err) }
	put(t, filepath.Join(w.Dir, "cron.yaml"), strings.Replace(good, "echo hi", "[bin/job]", 1))
	w.look(false)
	w.refresh()
	if n := strings.Count(log.String(), "are left out"); n != 1 || w.State().Kind != Faulty {
		t.Fatalf("%s, told %d times: %s", w.State().Kind, n, log)
	}
	missing = nil
	w.look(false)
	w.refresh()
	w.refresh()
	if w.State().Kind != Loaded || w.State().Err != nil || !slices.Equal(*applied, []int{0, 1}) {
		t.Errorf("%s, applied %v: %v", w.State().Kind, *applied, w.State().Err)
	}
	if len(judged) != 2 || judged[0] == nil || judged[1] != nil {
		t.Errorf("reported %v, want a fault and its end, once each", judged)
	}
}

// A table that asks where it is is applied again when that becomes known, and not before.
func TestTableAsksWhereItIs(t *testing.T) {
	w, applied, _ := newWatcher(t)
	where := ""
	w.Where = func() string { return where }
	put(t, filepath.Join(w.Dir, "cron.yaml"), "environments: [prod]\n"+good)
	w.look(false)
	w.refresh()
	if len(*applied) != 1 {
		t.Errorf("applied %d times while nothing is known", len(*applied))
	}
	where = "prod"
	w.refresh()
	w.refresh()
	if len(*applied) != 2 {
		t.Errorf("applied %d times, want once more", len(*applied))
	}
}

// A look takes as long as resolving the application's environment, seconds when get-config stands in. State waited for
// it, and so did agent cron list. All commands of a file are looked up in one resolution.
func TestStateDoesNotWaitForALook(t *testing.T) {
	w, _, _ := newWatcher(t)
	resolved := 0
	entered, leave := make(chan bool, 2), make(chan bool)
	w.Options = func() scheduler.ParseOptions {
		resolved++
		entered <- true
		<-leave
		return scheduler.ParseOptions{CheckCommand: func(string) error { return nil }}
	}
	w.Apply = func(scheduler.Table) { entered <- true; <-leave }
	put(t, filepath.Join(w.Dir, "cron.yaml"), strings.Replace(good, "echo hi", "[a]", 1)+"  - {name: two, command: [b], schedule: '@hourly'}\n")
	looked := make(chan bool)
	go func() { defer close(looked); w.look(false) }()
	for step := range 2 {
		<-entered
		state := make(chan fileState, 1)
		go func() { state <- w.State() }()
		select {
		case st := <-state:
			if n := len(st.Table.Jobs); n != 2*step {
				t.Errorf("step %d: %d jobs", step, n)
			}
		case <-time.After(5 * time.Second):
			t.Error("State waits for the look")
		}
		leave <- true
	}
	<-looked
	if resolved != 1 {
		t.Errorf("the environment was resolved %d times", resolved)
	}
}

// A job may start, or be tried again, when the file it came from has been replaced by another user's: it keeps whose
// word it is. A path that is mended is noticed without a change of the file.
func TestEachJobKnowsWhoseWordItIs(t *testing.T) {
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	w, applied, _ := newWatcher(t)
	path := filepath.Join(w.Dir, "cron.yaml")
	r := appenv.New(appenv.Config{AppDir: w.Dir})
	w.Writer = r.Writer
	put(t, path, good)
	w.look(false)
	first := w.State()
	if err := errors.Join(os.Chown(w.Dir, 900, 900), os.Chown(path, 900, 900)); err != nil {
		t.Fatal(err)
	}
	w.look(false)
	second := w.State()
	if first.Table.Jobs[0].Source == second.Table.Jobs[0].Source || first.Writer.Err() != nil || second.Writer.Err() != nil {
		t.Errorf("of root %v, of another %v", first.Table.Jobs[0].Source, second.Table.Jobs[0].Source)
	}
	run := func(st fileState) error {
		source, _ := st.Table.Jobs[0].Source.(appenv.Writer)
		_, err := r.Profile(t.Context(), appenv.ProfileOptions{Writer: source})
		return err
	}
	if err := run(first); err == nil {
		t.Error("root's job runs as another")
	}
	if err := run(second); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(w.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	w.look(false)
	if w.State().Writer.Err() == nil || run(w.State()) == nil {
		t.Error("a directory that everybody writes")
	}
	os.Chmod(w.Dir, 0o755)
	w.look(false)
	if err := run(w.State()); err != nil {
		t.Errorf("mended: %v", err)
	}
	*applied = nil
	if w.look(false); len(*applied) > 0 {
		t.Error("an unchanged file is applied at each look")
	}
}

// A file that looks like a cron file and is none is named.
func TestFilesThatNobodyReadsAreNamed(t *testing.T) {
	w, _, _ := newWatcher(t)
	w.Files = []string{"cron.yaml", "crontab"}
	for _, step := range []struct {
		put  string
		want []string
	}{
		{"crontab.txt", []string{"crontab.txt is not read: it must be called crontab"}},
		{"config/crontab", []string{"crontab.txt is not read: it must be called crontab", "config/crontab is not read: it must be called crontab"}},
		{"crontab", nil},
		{"cron.yml", []string{"cron.yml is not read: it must be called cron.yaml"}},
		{"cron.yaml", []string{"cron.yml is not read: it must be called cron.yaml", "crontab is not read, since there is a cron.yaml"}},
	} {
		put(t, filepath.Join(w.Dir, step.put), good)
		if got := w.ignored(); !slices.Equal(got, step.want) {
			t.Errorf("with a %s: %q, want %q", step.put, got, step.want)
		}
	}
}
