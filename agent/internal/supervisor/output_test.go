package supervisor

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Reason: a runaway job must not fill the disk, and its first and its last words are what explains it.
func TestSpoolKeepsHeadAndTail(t *testing.T) {
	d := start(t)
	req := spooled("seq 1 400000; echo last words")
	req.MaxOutput = 256 << 10
	run, err := d.Start(t.Context(), req, Handover{})
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
	run, err := d.Start(t.Context(), spooled("echo one; read x <"+fifo+"; echo $x; printf unfinished"), Handover{})
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

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\n", 5, "a\n"}, {"", 1, ""}, {"a\nb\n", 1, "b\n"}, {"\n\n\n", 2, "\n\n"}} {
		if got := c.in[lastLines([]byte(c.in), c.n):]; got != c.want {
			t.Errorf("last %d lines of %q are %q, want %q", c.n, c.in, got, c.want)
		}
	}
}

// However many lines are asked for: the number is from a request, and the agent reads the spool as root.
func TestTailOfAnyNumberOfLines(t *testing.T) {
	spool := filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(spool, bytes.Repeat([]byte("a line\n"), 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, from := range map[int]int64{1: 35<<20 - 7, 100: 35<<20 - 700, 1 << 24: 19 << 20, math.MaxInt: 19 << 20} {
		r, err := OpenOutput(Run{Output: spool})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Tail(lines); err != nil || r.at != from {
			t.Errorf("the last %d lines begin at %d, want %d (%v)", lines, r.at, from, err)
		}
	}
}
