package collectors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// kmsgRecords is a log of records, one a Read.
type kmsgRecords []string

func (k *kmsgRecords) Read(b []byte) (int, error) {
	if len(*k) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*k)[0])
	*k = (*k)[1:]
	return n, nil
}

func (k *kmsgRecords) Close() error { return nil }

// A real kill in a real cgroup: the count rises by one and the victim has its
// process number, its cgroup and our name for it.
func TestOOMKillNamesItsVictim(t *testing.T) {
	name := fmt.Sprintf("collectors-oom-%d", os.Getpid())
	dir := makeMemoryCgroup(t, name)
	limit := filepath.Join(dir, "memory.limit_in_bytes")
	if _, err := os.Stat(limit); err != nil {
		limit = filepath.Join(dir, "memory.max")
	}
	need(t, "needs a memory limit", os.WriteFile(limit, []byte("20M"), 0o644))
	python, err := exec.LookPath("/usr/bin/python3")
	need(t, "needs /usr/bin/python3", err)
	log, err := openKmsg()
	need(t, "needs the kernel's log", err)
	log.Close()

	var victims []Victim
	o := NewOOM(OOMConfig{
		Report: func(v Victim) { victims = append(victims, v) },
		Name: func(pid int, cgroup string) string {
			if cgroup == name {
				return "job nightly"
			}
			return ""
		},
	})
	defer o.Close()
	if got, err := collect(t, o); err != nil || got["oom_kills"].Value != 0 {
		t.Fatalf("before: got %v, %v, want 0", got, err)
	}
	cmd := exec.Command("/bin/sh", "-c", `echo $$ > "$1"/cgroup.procs && exec "$2" -c 'x = bytearray(100 << 20)'`, "sh", dir, python)
	if err := cmd.Run(); err == nil {
		t.Fatal("the process lives: no kill to name")
	}
	var kills float64
	eventually(t, "the victim's name", func() bool {
		got, err := collect(t, o)
		if err != nil {
			t.Fatal(err)
		}
		kills += got["oom_kills"].Value
		return len(victims) > 0
	})
	v := victims[0]
	if v.PID != cmd.Process.Pid || v.Cgroup != name || v.Limit != name || v.Name != "job nightly" || v.Command != "python3" {
		t.Errorf("victim: got %+v, want process %d of cgroup %q", v, cmd.Process.Pid, name)
	}
	if age := time.Since(v.At); age < -time.Second || age > time.Minute {
		t.Errorf("at: %v ago, want moments", age)
	}
	within(t, "anonymous memory", float64(v.Anon), 20<<20, 0.2)
	near(t, "oom_kills", kills, float64(len(victims)), 0)
	victims = nil
	if got, err := collect(t, o); err != nil || got["oom_kills"].Value != 0 || victims != nil {
		t.Errorf("next tick: got %v, %v, %v, want the kill told once", got, err, victims)
	}
}

// fixtureOOM is an OOM over a counter and a log that a test sets.
type fixtureOOM struct {
	*OOM
	proc    fstest.MapFS
	log     kmsgRecords
	victims []Victim
}

func newFixtureOOM(kills int) *fixtureOOM {
	f := &fixtureOOM{proc: fstest.MapFS{}}
	f.set(kills)
	f.OOM = NewOOM(OOMConfig{
		Proc:   f.proc,
		Kmsg:   func() (io.ReadCloser, error) { return &f.log, nil },
		Report: func(v Victim) { f.victims = append(f.victims, v) },
	})
	return f
}

func (f *fixtureOOM) set(kills int) {
	f.proc["vmstat"] = &fstest.MapFile{Data: fmt.Appendf(nil, "nr_free_pages 1\noom_kill %d\n", kills)}
	if f.OOM != nil {
		f.vmstat.close() // a MapFS file is as it was when opened
	}
}

// record is a log record, by a clock of its own.
func record(seq int, text string) string { return fmt.Sprintf("6,%d,%d,-;%s\n", seq, seq, text) }

// The counter rises before the log has the line: the name follows at the next
// tick, and one that never comes is an error, once.
func TestOOMNameMayComeATickLate(t *testing.T) {
	f := newFixtureOOM(3)
	f.Collect(context.Background())
	f.set(5)
	if _, err := f.Collect(context.Background()); err != nil || f.victims != nil {
		t.Fatalf("log without a line: got %v, %v, want patience", err, f.victims)
	}
	f.log = kmsgRecords{record(7, "Out of memory: Killed process 42 (ruby) total-vm:1kB, anon-rss:2kB, file-rss:0kB")}
	_, err := f.Collect(context.Background())
	if len(f.victims) != 1 || f.victims[0].PID != 42 || f.victims[0].Anon != 2048 {
		t.Errorf("got %+v, want process 42 with 2 kB", f.victims)
	}
	if err == nil || !strings.Contains(err.Error(), "lacks 1") {
		t.Errorf("got %v, want that one of two has no line", err)
	}
	if out, err := f.Collect(context.Background()); err != nil || out[0].Value != 0 || len(f.victims) != 1 {
		t.Errorf("quiet tick: got %v, %v, %v", out, err, f.victims)
	}
	f.set(6)
	f.log = kmsgRecords{record(8, "Out of memory: Killed process 43 (ruby) total-vm:1kB, anon-rss:2kB, file-rss:0kB")}
	f.Collect(context.Background())
	if len(f.victims) != 2 || f.victims[1].PID != 43 {
		t.Errorf("the next kill, a moment later: got %+v, want process 43 and 42 not again", f.victims)
	}
}

// The summary, which alone has the cgroup, and the line with the victim's number
// may come at two ticks.
func TestOOMPutsASummaryToALateLine(t *testing.T) {
	f := newFixtureOOM(0)
	f.Collect(context.Background())
	f.set(1)
	f.log = kmsgRecords{record(3, "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/web.service,task=x,pid=42,uid=0")}
	f.Collect(context.Background())
	f.log = kmsgRecords{record(4, "Out of memory: Killed process 42 (x) total-vm:1kB, anon-rss:2kB, file-rss:0kB")}
	f.Collect(context.Background())
	if len(f.victims) != 1 || f.victims[0].Cgroup != "system.slice/web.service" {
		t.Errorf("got %+v, want process 42 of web.service", f.victims)
	}
}

// The log's clock says nothing: some days after boot it is seconds from the
// system's. What was said before the first tick is not read at all.
func TestOOMIgnoresForgedRecordsAndTheLogsClock(t *testing.T) {
	f := newFixtureOOM(0)
	f.Collect(context.Background())
	f.set(1)
	f.log = kmsgRecords{
		"14,2,2,-;Out of memory: Killed process 43 (forged) total-vm:1kB, anon-rss:2kB\n",
		record(3, "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/web.service,task=x,pid=1,y,pid=42,uid=0"),
		record(4, "Out of memory: Killed process 42 (x) total-vm:) total-vm:1kB, anon-rss:2kB, file-rss:0kB"),
	}
	if _, err := f.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(f.victims) != 1 || f.victims[0].PID != 42 || f.victims[0].Cgroup != "system.slice/web.service" || f.victims[0].Limit != "" {
		t.Errorf("got %+v, want process 42 of web.service, killed for want on the host", f.victims)
	}
}

func TestOOMWithoutTheLogStillCounts(t *testing.T) {
	f := newFixtureOOM(0)
	f.cfg.Kmsg = func() (io.ReadCloser, error) { return nil, os.ErrPermission }
	f.Collect(context.Background())
	f.set(2)
	out, err := f.Collect(context.Background())
	if !errors.Is(err, os.ErrPermission) || len(out) != 1 || out[0].Value != 2 {
		t.Errorf("got %v, %v, want 2 kills and why they have no names", out, err)
	}
	if _, err := f.Collect(context.Background()); err != nil {
		t.Errorf("next tick: got %v, want it told once", err)
	}
}
