package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
)

// smallDisk is an empty file system of so many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to mount a disk")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// Old output never keeps a small disk from holding records: the newest output stays, all records stay, it is said once.
func TestOldOutputMakesRoomForRecords(t *testing.T) {
	disk := smallDisk(t, 3<<20)
	d := start(t, func(c *Config) { c.StateDir = disk })
	const n = 25
	var all []string
	for i := range n {
		req := spooled("head -c 250000 /dev/zero | tr '\\0' x; echo end")
		req.ID, req.Kind, req.Name = fmt.Sprint("r", i), "cron", "job"
		run, err := d.Start(t.Context(), req, runs.Handover{})
		if err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
		if run, err = d.Wait(t.Context(), run.ID); err != nil || run.OutputBytes != 250_004 || run.Truncated {
			t.Fatalf("run %d ended as %+v, %v", i, run, err)
		}
		all = append(all, run.Output)
	}
	if list, err := d.List(t.Context(), runs.Filter{}); err != nil || len(list) != n {
		t.Errorf("%d records are left, %v", len(list), err)
	}
	if _, err := os.Stat(all[n-1]); err != nil {
		t.Errorf("the newest output is gone: %v", err)
	}
	if _, err := os.Stat(all[0]); err == nil {
		t.Error("the oldest output is there")
	}
	if said := strings.Count(d.log.String(), "old output is removed"); said != 1 {
		t.Errorf("said %d times", said)
	}
}

// Who fills the disk does not end the command that prints, nor hides that output is missing; and the newest output of
// the past is not erased by it.
func TestFullDiskLosesOutputAloud(t *testing.T) {
	disk := smallDisk(t, 8<<20)
	d := start(t, func(c *Config) { c.StateDir = disk })
	past, err := d.Start(t.Context(), spooled("echo evidence"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	d.Wait(t.Context(), past.ID)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := d.Start(t.Context(), spooled("echo first; read x <"+gate+"; head -c 500000 /dev/zero | tr '\\0' x; echo; read x <"+gate+"; echo last; exit 3"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first line is kept", func() bool { b, _ := os.ReadFile(run.Output); return string(b) == "first\n" })
	fill := filepath.Join(disk, "fill")
	os.WriteFile(fill, make([]byte, 16<<20), 0o600)
	os.WriteFile(gate, []byte("\n"), 0)
	eventually(t, "all is printed", func() bool { run, err = d.Get(t.Context(), run.ID); return err == nil && run.OutputBytes == 500_007 })
	if now, err := d.Get(t.Context(), run.ID); err != nil || !now.Truncated {
		t.Errorf("%+v, %v", now, err)
	}
	os.Remove(fill)
	os.WriteFile(gate, []byte("\n"), 0)
	ended, err := d.Wait(t.Context(), run.ID)
	if err != nil || ended.ExitCode != 3 || !ended.Truncated || ended.OutputBytes != 500_012 {
		t.Errorf("ended as %+v, %v", ended, err)
	}
	var logs bytes.Buffer
	if err := d.Logs(t.Context(), &logs, run.ID, 0, false); err != nil || !strings.HasPrefix(logs.String(), "first\n") ||
		!strings.HasSuffix(logs.String(), " bytes lost here: no space left on device]\nlast\n") {
		t.Errorf("logs end with %q, %v", logs.Bytes()[max(0, logs.Len()-100):], err)
	}
	eventually(t, "it is logged", func() bool { return strings.Contains(d.log.String(), "could not be kept") })
	if b, err := os.ReadFile(past.Output); string(b) != "evidence\n" {
		t.Errorf("the past is %q, %v", b, err)
	}
}

func TestOldOutputGoesFirst(t *testing.T) {
	ended := map[string]entry{}
	for i := range 10 {
		ended[fmt.Sprint(i)] = entry{seq: uint64(i), at: time.Now(), output: 10}
	}
	for _, c := range []struct {
		need, stays int64
		want        string
	}{{1, 0, "0"}, {10, 0, "0"}, {11, 0, "01"}, {1000, 0, "0123456789"}, {1000, 35, "012345"}, {1000, 1000, ""}, {5, 95, ""}} {
		if got := strings.Join(oldOutput(ended, c.need, c.stays), ""); got != c.want {
			t.Errorf("%d needed, %d stay: %q goes, want %q", c.need, c.stays, got, c.want)
		}
	}
}
