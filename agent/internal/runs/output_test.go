package runs

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc", 2, "b\nc"}, {"a\n", 5, "a\n"}, {"", 1, ""}, {"a\nb\n", 1, "b\n"}, {"\n\n\n", 2, "\n\n"}} {
		at, err := lastLines(strings.NewReader(c.in), 0, int64(len(c.in)), c.n)
		if got := c.in[at:]; got != c.want || err != nil {
			t.Errorf("last %d lines of %q are %q, want %q (%v)", c.n, c.in, got, c.want, err)
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

// A reader that knows its place is given nothing that is not in the output, and stops where some was cut.
func TestReadingFromAPlaceStopsAtACut(t *testing.T) {
	spool := filepath.Join(t.TempDir(), "output")
	f, err := os.Create(spool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const block, tail = 4096, 1 << 20
	if _, err := f.Write(bytes.Repeat([]byte("a"), block)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("end\n"), tail); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from   Position
		at     int64
		length int
		err    error
	}{
		{Position{}, 0, block, errCut}, {Position{At: 4000}, 4000, 96, errCut},
		{Position{At: block}, tail, 4, nil}, {Position{At: 5000}, tail, 4, nil}, {Position{Lines: 1}, tail, 4, nil},
		{Position{At: tail + 4}, tail + 4, 0, nil}, {Position{At: 1 << 40}, tail + 4, 0, nil}, {Position{At: -1}, 0, block, errCut},
	} {
		r, err := OpenOutput(Run{Output: spool})
		if err != nil {
			t.Fatal(err)
		}
		err = r.seek(c.from)
		at := r.at
		var b bytes.Buffer
		if err == nil {
			_, err = io.Copy(&b, r)
		}
		if at != c.at || b.Len() != c.length || err != c.err {
			t.Errorf("%+v: %d bytes from %d, %v; want %d from %d, %v", c.from, b.Len(), at, err, c.length, c.at, c.err)
		}
		r.Close()
	}
}
