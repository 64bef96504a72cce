package runs

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"testing"
)

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
