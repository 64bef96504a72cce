package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// fat is a request in which everything that a job's file or a caller says is as long as it can be.
func fat(id string) *runs.Request {
	long := strings.Repeat("\x01é", 100_000)
	return &runs.Request{ID: id, Args: []string{"/bin/true", long, long}, Name: long, Dir: "/" + long, User: long, Lock: long,
		Version: long, Reason: long, IO: runs.IOSpool, Caller: runs.Caller{Login: long}, Meta: map[string]string{runs.MetaHost: long}}
}

// Whatever is asked for, its record is small, on disk and in memory; of the arguments it is known what they were.
func TestRecordIsSmall(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "runs"), Keep{})
	run := newRun(fat("fat"))
	if err := s.create(&run); err != nil {
		t.Fatal(err)
	}
	run.State, run.Ended, run.StoppedBy = runs.StateExited, time.Now(), "stop"
	if err := s.finish(&run); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"meta.json", "status.json"} {
		if info, err := os.Stat(s.path(run.ID, file)); err != nil || info.Size() > largeRecord/2 {
			t.Errorf("%s has %d bytes, %v", file, info.Size(), err)
		}
	}
	rec, err := s.read("fat")
	first := strings.Join(rec.Run.Args, " ")
	if err != nil || rec.Run.AllArgs.Count != 3 || rec.Run.AllArgs.Bytes != 600_012 || len(first) > runs.MaxArgs+10 ||
		!strings.HasPrefix(first, "/bin/true \x01é") || rec.Run.AllArgs != run.AllArgs {
		t.Errorf("read back as %d bytes of %+v, %v", len(first), rec.Run.AllArgs, err)
	}
	many := newRun(&runs.Request{Args: make([]string, 1_000_000), IO: runs.IOSpool, Name: "x"})
	few := newRun(&runs.Request{Args: []string{"printf", "a b", ""}, IO: runs.IOSpool})
	if len(many.Args) > runs.MaxArgs || many.AllArgs.Count != 1_000_000 {
		t.Errorf("of a million empty arguments %d are kept, of %+v", len(many.Args), many.AllArgs)
	}
	if len(few.Args) != 3 || few.AllArgs != (runs.AllArgs{}) {
		t.Errorf("of three small ones: %q, %+v", few.Args, few.AllArgs)
	}
}

// The hash is the one that a shell makes of the process while it is there.
func TestArgumentsAreHashedAsTheKernelHasThem(t *testing.T) {
	d := start(t)
	req := argv("/bin/sh", "-c", "sha256sum </proc/$$/cmdline", strings.Repeat("x", 10_000))
	req.IO = runs.IOSpool
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	if run, err = d.Wait(t.Context(), run.ID); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(run.Output); run.AllArgs.SHA256 == "" || !strings.HasPrefix(string(b), run.AllArgs.SHA256+" ") {
		t.Errorf("recorded %+v, the kernel says %s", run.AllArgs, b)
	}
	list, err := d.List(t.Context(), runs.Filter{})
	if err != nil || len(list) != 1 || list[0].Args != nil || list[0].AllArgs != (runs.AllArgs{}) {
		t.Errorf("a list has arguments: %+v, %v", list, err)
	}
}

// A list of as many fat runs as are kept is bounded, and says what is not in it; to make it takes a bounded amount of
// memory, and so do the events of all of them.
func TestListsAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 900 large records")
	}
	s := &server{store: open(t, filepath.Join(t.TempDir(), "runs"), Keep{PerName: 1000})}
	const n = 900
	for i := range n {
		run := newRun(fat(fmt.Sprint("r", i)))
		if err := s.store.create(&run); err != nil {
			t.Fatal(err)
		}
		run.State, run.Ended = runs.StateExited, time.Now()
		if err := s.store.finish(&run); err != nil {
			t.Fatal(err)
		}
		s.store.acknowledge(run.StartSeq)
		s.store.acknowledge(run.EndSeq)
	}
	var list []json.RawMessage
	left := 0
	allocated(t, "the list", 64<<20, func() { list, left = s.list(runs.Filter{}) })
	if size := len(bytes.Join(asBytes(list), nil)); size > runs.MaxList || size < runs.MaxList/2 || len(list)+left != n {
		t.Errorf("%d runs of %d bytes are listed, %d left out", len(list), size, left)
	}
	var newest runs.Run
	if err := json.Unmarshal(list[0], &newest); err != nil || newest.ID != fmt.Sprint("r", n-1) {
		t.Errorf("first comes %s, %v", newest.ID, err)
	}
	if list, left := s.list(runs.Filter{Limit: 3}); len(list) != 3 || left != 0 {
		t.Errorf("of three asked for %d are listed, %d left out", len(list), left)
	}
	var seen []uint64
	for after, more := uint64(0), true; more; {
		var some []runs.Event
		if some, after, more = s.events(after); len(some) > someEvents {
			t.Fatalf("%d events at a time", len(some))
		}
		for _, e := range some {
			if e.Run.Args != nil {
				t.Fatalf("event %d has arguments", e.Seq)
			}
			seen = append(seen, e.Seq)
		}
	}
	for i, seq := range seen {
		if seq != uint64(i+1) {
			t.Fatalf("event %d has number %d", i, seq)
		}
	}
	if len(seen) != 2*n {
		t.Errorf("%d events, want %d", len(seen), 2*n)
	}
}

func asBytes(list []json.RawMessage) (b [][]byte) {
	for _, m := range list {
		b = append(b, m)
	}
	return b
}

// allocated reports an error when f allocates more than most bytes in all.
func allocated(t *testing.T, what string, most uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	n := after.TotalAlloc - before.TotalAlloc
	t.Logf("%s allocates %.1f MB", what, float64(n)/1e6)
	if n > most {
		t.Errorf("%s allocates %.1f MB, at most %.1f are allowed", what, float64(n)/1e6, float64(most)/1e6)
	}
}

// plant writes the record of a run as a supervisor did that kept all arguments. ended is how long ago it ended; 0: it
// has not.
func plant(t *testing.T, dir, id string, seq uint64, args []string, ended time.Duration) {
	t.Helper()
	run := runs.Run{ID: id, Kind: "cron", Name: "job", Args: args, IO: runs.IOSpool, State: runs.StateRunning, StartSeq: 2 * seq}
	write := func(file string) {
		b, err := json.Marshal(map[string]any{"version": 1, "run": run})
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, id), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, id, file), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("meta.json")
	if ended == 0 {
		return
	}
	run.State, run.ExitCode, run.EndSeq, run.Ended = runs.StateExited, 7, 2*seq+1, time.Now().Add(-ended)
	write("status.json")
	if err := os.Chtimes(filepath.Join(dir, id, "status.json"), run.Ended, run.Ended); err != nil {
		t.Fatal(err)
	}
}

// After an upgrade: what an older supervisor wrote, with megabytes of arguments each, must not end the new one.
func TestLargeRecordsOfAnOlderVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 120 MB")
	}
	dir := t.TempDir()
	large := make([]string, 23)
	for i := range large {
		large[i] = strings.Repeat("x", 60_000)
	}
	d := start(t, func(c *Config) {
		dir = filepath.Join(c.StateDir, "runs")
		for i := range 90 {
			plant(t, dir, fmt.Sprintf("old-%02d", i), uint64(i+1), large, time.Duration(100-i)*time.Minute)
		}
		plant(t, dir, "live", 100, large, 0)
	})
	if kb := peakOf(t, d.cmd.Process.Pid); kb > 64<<10 && !raceDetector {
		t.Errorf("the supervisor took %d MB to start", kb>>10)
	}
	list, err := d.List(t.Context(), runs.Filter{})
	if err != nil || len(list) < 20 || list[0].ID != "live" || list[1].ID != "old-89" || list[1].ExitCode != 7 {
		t.Errorf("%d are listed, %v", len(list), err)
	}
	run, err := d.Get(t.Context(), "old-89")
	if err != nil || run.AllArgs.Bytes != 23*60_001 || len(strings.Join(run.Args, " ")) > runs.MaxArgs+10 {
		t.Errorf("%+v, %v", run, err)
	}
	size := int64(0)
	filepath.Walk(dir, func(_ string, info os.FileInfo, _ error) error { size += info.Size(); return nil })
	if size > 4<<20 { // the live one's first record stays
		t.Errorf("they still have %d MB", size>>20)
	}
	if kb := peakOf(t, d.cmd.Process.Pid); kb > 64<<10 && !raceDetector {
		t.Errorf("the supervisor took %d MB", kb>>10)
	}
	if strings.Count(d.log.String(), "removed unread") != 1 {
		t.Error("what was removed is not said, or more than once")
	}
}

// peakOf is the most memory that a process ever had, in kB.
func peakOf(t *testing.T, pid int) (kb int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fmt.Sscan(rest, &kb)
	t.Logf("peak %d kB", kb)
	return kb
}

// A disk that let nothing be removed for long, or a state directory that somebody restored.
func TestTooManyRecords(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 records")
	}
	dir := t.TempDir()
	for i := range 300 {
		plant(t, dir, fmt.Sprint("r", i), uint64(i), nil, time.Duration(400-i)*time.Second)
	}
	s := open(t, dir, Keep{Count: 20})
	if !s.has("r299") || !s.has("r280") || s.has("r279") || len(s.list(func(string, entry) bool { return true })) != 20 {
		t.Error("not the newest are kept")
	}
	if left, _ := os.ReadDir(dir); len(left) != 20 {
		t.Errorf("%d directories are left", len(left))
	}
}
