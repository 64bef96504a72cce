package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string, keep Keep) *store {
	t.Helper()
	s, err := openStore(dir, keep, false, planted.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A run whose supervisor died at any byte of its writing is lost by name, if its name was ever on disk,
// and by id otherwise; never forgotten, never a reason not to start.
func TestTornRecords(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Keep{})
	run := newRun(&runs.Request{ID: "torn", Args: []string{"rake"}, Name: "nightly", Kind: "cron", IO: runs.IOSpool})
	if err := s.create(&run); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(s.path("torn", "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n <= len(whole); n += 7 {
		for _, file := range []string{"meta.json", "status.json"} {
			dir := t.TempDir()
			os.Mkdir(filepath.Join(dir, "torn"), 0o700)
			os.WriteFile(filepath.Join(dir, "torn", file), whole[:n], 0o600)
			os.WriteFile(filepath.Join(dir, "torn", "status.json.new"), whole[:n/2], 0o600)
			s := open(t, dir, Keep{})
			rec, err := s.read("torn")
			if err != nil || rec.Run.State != runs.StateLost || rec.Run.EndSeq == 0 || rec.Run.ExitCode != 125 {
				t.Fatalf("%s cut at %d of %d: read as %+v, %v", file, n, len(whole), rec.Run, err)
			}
			if n < len(whole)-1 && file == "status.json" { // the last byte is only the newline
				tornStatus(t, whole, whole[:n])
			}
			again := open(t, dir, Keep{})
			if rec2, err := again.read("torn"); err != nil || rec2.Run.EndSeq != rec.Run.EndSeq {
				t.Fatalf("%s cut at %d: lost a second time: %+v, %v", file, n, rec2.Run, err)
			}
		}
	}
}

// A torn status is none: what the run was is still in its meta file.
func tornStatus(t *testing.T, meta, status []byte) {
	t.Helper()
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "torn"), 0o700)
	os.WriteFile(filepath.Join(dir, "torn", "meta.json"), meta, 0o600)
	os.WriteFile(filepath.Join(dir, "torn", "status.json"), status, 0o600)
	rec, err := open(t, dir, Keep{}).read("torn")
	if err != nil || rec.Run.State != runs.StateLost || rec.Run.Name != "nightly" || rec.Run.Kind != "cron" {
		t.Errorf("status cut at %d: read as %+v, %v", len(status), rec.Run, err)
	}
}

// A downgrade finds records of a newer version: it must not touch what it would misread.
func TestNewerRecordIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "new"), 0o700)
	text := `{"version":2,"run":{"id":"new","name":"from the future"}}`
	name := filepath.Join(dir, "new", "status.json")
	os.WriteFile(name, []byte(text), 0o600)
	s := open(t, dir, Keep{Count: 1, Age: time.Nanosecond})
	if s.has("new") {
		t.Error("it was taken for a run of ours")
	}
	if b, err := os.ReadFile(name); string(b) != text {
		t.Errorf("it now reads %q, %v", b, err)
	}
}

func TestRetention(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		keep Keep
		want []string
	}{
		"count":    {Keep{Count: 2}, []string{"a", "c3"}}, // of c there are more
		"per name": {Keep{PerName: 1}, []string{"a", "c3"}},
		"age":      {Keep{Age: 90 * time.Minute}, []string{"c2", "c3"}},
		"bytes":    {Keep{Bytes: 1}, []string{"a", "c1", "c2", "c3"}}, // of which only output goes
		"all":      {Keep{}, []string{"a", "c1", "c2", "c3"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, Keep{})
			for i, id := range []string{"a", "c1", "c2", "c3"} {
				run := newRun(&runs.Request{ID: id, Args: []string{"x"}, Name: id[:1], IO: runs.IOSpool})
				if err := s.create(&run); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s.path(id, "output"), make([]byte, 100<<10), 0o600); err != nil { // which the record does not say
					t.Fatal(err)
				}
				run.State, run.Ended = runs.StateExited, now.Add(time.Duration(i-4)*time.Hour/2-time.Minute)
				if err := s.finish(&run); err != nil {
					t.Fatal(err)
				}
			}
			live := newRun(&runs.Request{ID: "live", Args: []string{"x"}, Name: "a", IO: runs.IOSpool})
			s.create(&live)
			s.keep = c.keep.withDefaults()
			s.prune(now)
			s.trim()
			left, _ := filepath.Glob(filepath.Join(dir, "*"))
			for i := range left {
				left[i] = filepath.Base(left[i])
			}
			if want := append(slices.Clone(c.want), "live"); !slices.Equal(left, want) {
				t.Errorf("kept %q, want %q", left, want)
			}
		})
	}
}

// A run that ends, or is lost, when many that started later have ended, or whose start nobody knows, is the
// newest all the same: its end has not been told yet.
func TestRetentionKeepsWhatJustEnded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Keep{})
	begin := func(id string) runs.Run {
		run := newRun(&runs.Request{ID: id, Args: []string{"x"}, IO: runs.IOSpool})
		if err := s.create(&run); err != nil {
			t.Fatal(err)
		}
		return run
	}
	finish := func(run runs.Run) {
		run.State, run.Ended, run.OutputBytes = runs.StateExited, time.Now(), 10
		if err := s.finish(&run); err != nil {
			t.Fatal(err)
		}
	}
	long, lost := begin("long"), begin("lost")
	for _, id := range []string{"a", "b", "c"} {
		finish(begin(id))
	}
	finish(long)
	s.keep = Keep{Count: 2, Bytes: 5}.withDefaults()
	s.prune(time.Now())
	s.trim()
	if !s.has("long") {
		t.Error("what ended last is forgotten already")
	}
	os.Mkdir(filepath.Join(dir, "torn"), 0o700)
	if s = open(t, dir, Keep{Count: 3}); !s.has(lost.ID) || !s.has("torn") {
		t.Error("what was lost is forgotten already")
	}
}

// Reason: on a full disk the end of a run must still be told, and be written once there is room.
func TestStatusThatCannotBeWritten(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "runs"), Keep{})
	run := newRun(&runs.Request{ID: "full", Args: []string{"x"}, IO: runs.IOPipes})
	if err := s.create(&run); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.dir, s.dir+".away"); err != nil {
		t.Fatal(err)
	}
	run.State, run.ExitCode, run.Ended = runs.StateExited, 7, time.Now()
	if err := s.finish(&run); err == nil {
		t.Fatal("written into a directory that is away")
	}
	if rec, err := s.read("full"); err != nil || rec.Run.ExitCode != 7 {
		t.Errorf("meanwhile read as %+v, %v", rec.Run, err)
	}
	if err := os.Rename(s.dir+".away", s.dir); err != nil {
		t.Fatal(err)
	}
	next := newRun(&runs.Request{ID: "next", Args: []string{"x"}, IO: runs.IOPipes})
	next.Ended = time.Now()
	s.create(&next)
	s.finish(&next)
	if rec, err := open(t, s.dir, Keep{}).read("full"); err != nil || rec.Run.ExitCode != 7 || rec.Run.State != runs.StateExited {
		t.Errorf("on disk as %+v, %v", rec.Run, err)
	}
}

// Reason: while a disk hangs, those who ask for runs must be answered. A pipe that is not read hangs as one does.
func TestLookingAtRunsDoesNotWaitForTheDisk(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "runs"), Keep{})
	end := func(id string) error {
		run := newRun(&runs.Request{ID: id, Args: []string{strings.Repeat("x", 1<<20)}, IO: runs.IOPipes})
		run.State, run.Ended = runs.StateExited, time.Now()
		if err := s.create(&run); err != nil {
			t.Fatal(err)
		}
		if id == "hanging" {
			if err := unix.Mkfifo(s.path(id, "status.json"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return s.finish(&run)
	}
	if end("hanging") == nil {
		t.Fatal("written into a pipe without a reader")
	}
	pipe, err := os.OpenFile(s.path("hanging", "status.json"), os.O_RDWR|unix.O_NONBLOCK, 0) // writing, too, or a read would not wait
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() { next <- end("next") }()
	if _, err := pipe.Read(make([]byte, 1)); err != nil { // from here on the store hangs in its write
		t.Fatal(err)
	}
	looked := make(chan error, 1)
	go func() {
		rec, err := s.read("hanging")
		if all := s.list(func(string, entry) bool { return true }); err == nil && (len(all) != 2 || rec.Run.State != runs.StateExited) {
			err = fmt.Errorf("found %v, %+v", all, rec.Run)
		}
		looked <- err
	}()
	select {
	case err := <-looked:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer while a write hangs")
	}
	pipe.Close()
	<-next
}

func FuzzParseRecord(f *testing.F) {
	for _, name := range []string{"../runs/testdata/v1/run.json", "testdata/v1/status.json"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(append(b, b...))
	}
	f.Add([]byte(`{"version":1,"run":{"id":"a","started":"2026-11-23T00:00:00Z"}}`))
	f.Add([]byte(`{"version":1,"begun":1,"run":{"id":"../x","args":[],"meta":{},"slot":"9999-12-31T23:59:59-23:59"}}`))
	f.Add([]byte(`{"version":1e9}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := parseRecord(b)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Errorf("%q was taken for a whole record", b)
		}
		text, err := json.Marshal(rec)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if again, err := parseRecord(text); err != nil || !reflect.DeepEqual(again, rec) {
			t.Errorf("read %+v, written and read again %+v (%v)", rec, again, err)
		}
	})
}

// An agent that was away learns of every end, once, in order.
func TestEventsAreDurable(t *testing.T) {
	d := start(t)
	want := map[string]int{}
	for i := range 5 {
		run, err := d.Start(t.Context(), spooled(fmt.Sprintf("exit %d", i)), runs.Handover{})
		if err != nil {
			t.Fatal(err)
		}
		want[run.ID] = i
	}
	for id := range want {
		d.Wait(t.Context(), id)
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.restart(t)
	last, err := d.Start(t.Context(), spooled("sleep 0.1; exit 9"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	want[last.ID] = 9

	var seq uint64
	started := map[string]bool{}
	for e, err := range d.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq <= seq {
			t.Errorf("event %d after %d", e.Seq, seq)
		}
		seq = e.Seq
		code, known := want[e.Run.ID]
		switch {
		case !known || e.Type == runs.EventEnded && (!started[e.Run.ID] || e.Run.ExitCode != code):
			t.Errorf("unexpected event %+v", e)
		case e.Type == runs.EventStarted:
			started[e.Run.ID] = true
		default:
			delete(want, e.Run.ID)
		}
		if len(want) == 0 {
			break
		}
	}
	for e := range d.Events(t.Context(), seq-1) {
		if e.Seq != seq || e.Run.ID != last.ID {
			t.Errorf("after %d came %+v", seq-1, e)
		}
		break
	}
}

// An agent that has heard of a run whose record is gone, as after a power cut, hears of the next.
func TestNumbersDoNotComeAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Keep{})
	var heard uint64
	for _, id := range []string{"kept", "gone"} {
		run := newRun(&runs.Request{ID: id, Args: []string{"x"}, IO: runs.IOSpool})
		s.create(&run)
		run.Ended = time.Now()
		if err := s.finish(&run); err != nil {
			t.Fatal(err)
		}
		heard = run.EndSeq
	}
	os.RemoveAll(s.path("gone", ""))
	s = open(t, dir, Keep{})
	next := newRun(&runs.Request{ID: "next", Args: []string{"x"}, IO: runs.IOSpool})
	if s.create(&next); next.StartSeq <= heard {
		t.Errorf("the next run begins with number %d, %d was told already", next.StartSeq, heard)
	}
}

// Once retention has removed every run the next supervisor counts from one again: whoever has heard of
// events up to a higher number must not wait until it is reached.
func TestEventsAfterAllRunsAreForgotten(t *testing.T) {
	d := start(t)
	run, err := d.Start(t.Context(), spooled("exit 3"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	d.Wait(t.Context(), run.ID)
	for e, err := range d.Events(t.Context(), 100) {
		if err != nil || e.Run.ID != run.ID || e.Seq > 2 {
			t.Errorf("after event 100 came %+v, %v", e, err)
		}
		break
	}
}

// Without systemd nobody ends what is left of a killed supervisor's runs but the next supervisor.
func TestKilledSupervisorWithoutSystemd(t *testing.T) {
	d := start(t)
	run, err := d.Start(t.Context(), spooled("sleep 1000 & echo $!; wait"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	var child []int
	eventually(t, "child runs", func() bool { child = pidsOf(run.Output); return len(child) == 1 })
	d.cmd.Process.Kill()
	d.cmd.Wait()
	if !alive(run.PID) {
		t.Error("the run ended with its supervisor: nothing is left to test")
	}
	d.restart(t)
	lost, err := d.Get(t.Context(), run.ID)
	if err != nil || lost.State != runs.StateLost || lost.Name != "sh" || lost.ExitCode != 125 {
		t.Errorf("recorded as %+v, %v", lost, err)
	}
	if alive(run.PID) || alive(child[0]) {
		t.Error("what was left still runs, by nobody's leave")
	}
}

func pidsOf(file string) (pids []int) {
	text, _ := os.ReadFile(file)
	for _, f := range strings.Fields(string(text)) {
		var pid int
		if _, err := fmt.Sscan(f, &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// As above, but the command itself has ended by then and only a child of it is left.
func TestKilledSupervisorLeavesNoOrphan(t *testing.T) {
	d := start(t)
	run, err := d.Start(t.Context(), spooled("sleep 1000 & echo $!; wait"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	var child []int
	eventually(t, "child runs", func() bool { child = pidsOf(run.Output); return len(child) == 1 })
	d.cmd.Process.Kill()
	d.cmd.Wait()
	syscall.Kill(run.PID, syscall.SIGKILL)
	eventually(t, "the command is gone", func() bool { return !alive(run.PID) })
	d.restart(t)
	if alive(child[0]) {
		t.Error("its child still runs, by nobody's leave")
	}
}

// As above, but the run's end is recorded already, and the supervisor was about to end what it left behind. The
// first TERM is the killed supervisor's, the second the next one's.
func TestKilledSupervisorLeavesNoDaemonOfAnEndedRun(t *testing.T) {
	d := start(t)
	trapped := filepath.Join(t.TempDir(), "trapped")
	req := spooled("(trap 'trap - TERM; echo once' TERM; : >" + trapped + "; while :; do sleep 0.05; done) & echo $!; until [ -e " + trapped + " ]; do sleep 0.01; done; exit 3")
	req.Grace = time.Minute
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was asked to end", func() bool { b, _ := os.ReadFile(run.Output); return strings.Contains(string(b), "once") })
	daemon := pidsOf(run.Output)[0]
	d.cmd.Process.Kill()
	d.cmd.Wait()
	if !alive(daemon) {
		t.Fatal("it ended too early for this test")
	}
	d.restart(t)
	if alive(daemon) {
		t.Error("it still runs, by nobody's leave")
	}
	if ended, err := d.Get(t.Context(), run.ID); err != nil || ended.ExitCode != 3 || ended.State != runs.StateExited {
		t.Errorf("recorded as %+v, %v", ended, err)
	}
}

// DESIGN §6, local mode: kept while an agent or a run is there, gone by itself after.
func TestIdleExit(t *testing.T) {
	d := start(t, func(c *Config) { c.IdleExit = 300 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	seen, gone := make(chan runs.Event, 8), make(chan struct{})
	go func() {
		defer close(gone)
		for e, err := range d.Events(ctx, 0) {
			if err == nil {
				seen <- e
			}
		}
	}()
	run, err := d.Start(t.Context(), spooled("sleep 0.5"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	for e := range seen {
		if e.Type == runs.EventEnded && e.Run.ID == run.ID {
			break
		}
	}
	select {
	case <-gone:
		t.Fatal("it ended while an agent was there")
	case <-time.After(600 * time.Millisecond):
	}
	cancel()
	<-gone
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Lstat(d.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is left: %v", err)
	}
}

func TestShutdownEndsRunsAndItself(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	d := start(t)
	run, err := d.Start(t.Context(), spooled("trap '' TERM; echo $$; while :; do sleep 1; done"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "trap is set", func() bool { return len(pidsOf(run.Output)) == 1 })
	begun := time.Now()
	if err := d.Shutdown(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
	if took := time.Since(begun); took > 20*time.Second { // 8 s are promised, on a machine with time for it
		t.Errorf("it took %v", took)
	}
	rec, err := readRecord(filepath.Join(d.cfg.StateDir, "runs", run.ID, "status.json"))
	if err != nil || rec.Run.StoppedBy != "shutdown" || rec.Run.Signal != int(syscall.SIGKILL) {
		t.Errorf("recorded as %+v, %v", rec.Run, err)
	}
	if _, err := d.Start(t.Context(), spooled("true"), runs.Handover{}); err == nil {
		t.Error("it still starts runs")
	}
}

// DESIGN §2: idle, it is replaced at once; busy, it stays until its last run has ended.
func TestRetireWaitsForTheLastRun(t *testing.T) {
	d := start(t)
	run, err := d.Start(t.Context(), spooled("exec sleep 1000"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := d.Retire(t.Context()); err != nil || !info.Retiring || info.Live != 1 {
		t.Fatalf("%+v, %v", info, err)
	}
	second, err := d.Start(t.Context(), spooled("exit 3"), runs.Handover{})
	if err != nil {
		t.Fatalf("while it retires: %v", err)
	}
	if ended, err := d.Wait(t.Context(), second.ID); err != nil || ended.ExitCode != 3 {
		t.Errorf("while it retires: %+v, %v", ended, err)
	}
	if _, err := d.Stop(t.Context(), run.ID, 0); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
	if code := d.cmd.ProcessState.ExitCode(); code != 3 { // superviseMain's for ErrRetired
		t.Errorf("it ended with %d", code)
	}
}

// The end of a run comes on the connection that began it, and where that is lost with the supervisor, from
// the next one.
func TestBeginTellsTheEnd(t *testing.T) {
	d := start(t)
	d.Patience = 10 * time.Second
	begin := func(line string) (runs.Run, func() (runs.Run, error)) {
		req := spooled(line)
		req.ID = runs.NewID()
		run, ended, err := d.Begin(t.Context(), req)
		if err != nil || run.ID != req.ID || run.PID == 0 {
			t.Fatalf("began as %+v, %v", run, err)
		}
		return run, ended
	}
	_, ended := begin("exit 3")
	for _, name := range []string{d.Socket + ".away", d.Socket} { // first nobody else can be asked, then somebody
		if err := os.Rename(d.Socket, d.Socket+".away"); err != nil {
			t.Fatal(err)
		}
		os.Rename(d.Socket+".away", name)
		if run, err := ended(); err != nil || run.ExitCode != 3 || run.Live() {
			t.Errorf("with its socket at %q: ended as %+v, %v", name, run, err)
		}
		os.Rename(d.Socket+".away", d.Socket)
	}
	run, ended := begin("exec sleep 1000")
	if again, _, err := d.Begin(t.Context(), runs.Request{ID: run.ID, Args: []string{"true"}, IO: runs.IOSpool, UID: uint32(os.Geteuid())}); !errors.Is(err, runs.ErrExists) {
		t.Errorf("begun twice: %+v, %v", again, err)
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
	d.restart(t)
	if run, err := ended(); err != nil || run.State != runs.StateLost {
		t.Errorf("its supervisor was killed: %+v, %v", run, err)
	}
}

// What is given the same id twice is started once: an agent that lost the answer may ask again.
func TestStartIsIdempotentByID(t *testing.T) {
	d := start(t)
	req := spooled("exit 3")
	req.ID = "nightly-2026-11-23t0200z"
	for range 2 {
		run, err := d.Start(t.Context(), req, runs.Handover{})
		if err != nil && !errors.Is(err, runs.ErrExists) {
			t.Fatal(err)
		}
		if ended, err := d.Wait(t.Context(), req.ID); err != nil || ended.ExitCode != 3 {
			t.Errorf("%+v, then %+v, %v", run, ended, err)
		}
	}
	if list, _ := d.List(t.Context(), runs.Filter{}); len(list) != 1 {
		t.Errorf("%d runs", len(list))
	}
}
