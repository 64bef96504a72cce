package supervisor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/runs"
)

// Reason: a runaway job must not fill the disk, and its first and its last words are what explains it.
func TestSpoolKeepsHeadAndTail(t *testing.T) {
	d := start(t)
	req := spooled("seq 1 400000; echo last words")
	req.MaxOutput = 256 << 10
	run, err := d.Start(t.Context(), req, runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	run, err = d.Wait(t.Context(), run.ID)
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	for i := 1; i <= 400000; i++ {
		fmt.Fprintln(&whole, i)
	}
	fmt.Fprintln(&whole, "last words")
	if run.OutputBytes != int64(whole.Len()) || !run.Truncated {
		t.Errorf("recorded %d bytes, truncated %v; want %d, true", run.OutputBytes, run.Truncated, whole.Len())
	}
	eventually(t, "the file takes no more of the disk than it may", func() bool { // after the end is told
		var st unix.Stat_t
		return unix.Stat(run.Output, &st) == nil && st.Blocks*512 <= req.MaxOutput+2*4096
	})
	var logs bytes.Buffer
	if err := d.Logs(t.Context(), &logs, run.ID, 0, false); err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(logs.String(), "\n[agent: ")
	cut, tail, _ := strings.Cut(rest, " bytes cut here]\n")
	var n int
	fmt.Sscan(cut, &n)
	if !found || !strings.HasPrefix(whole.String(), head) || !strings.HasSuffix(whole.String(), tail) || len(head)+n+len(tail) != whole.Len() {
		t.Errorf("head of %d, cut of %q, tail of %d do not make up %d bytes", len(head), cut, len(tail), whole.Len())
	}
	if !strings.HasSuffix(tail, "last words\n") || len(head) < 64<<10 || len(tail) < 128<<10 {
		t.Errorf("kept %d bytes of the beginning and %d of the end", len(head), len(tail))
	}
	logs.Reset()
	if err := d.Logs(t.Context(), &logs, run.ID, 2, false); err != nil || logs.String() != "400000\nlast words\n" {
		t.Errorf("last two lines: %q, %v", &logs, err)
	}
}

func TestLogsFollowUntilTheEnd(t *testing.T) {
	d := start(t)
	fifo := filepath.Join(t.TempDir(), "go")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	run, err := d.Start(t.Context(), spooled("echo one; read x <"+fifo+"; echo $x; printf unfinished"), runs.Handover{})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := d.Logs(t.Context(), w, run.ID, 0, true)
		w.CloseWithError(err)
		done <- err
	}()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "one\n" {
		t.Fatalf("first came %q, %v", buf, err)
	}
	os.WriteFile(fifo, []byte("two\n"), 0)
	rest, err := io.ReadAll(r)
	if string(rest) != "two\nunfinished" || err != nil || <-done != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
}
