package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFramesComeBackInPiecesOfAnySize(t *testing.T) {
	var b []byte
	b = AppendFrame(b, Output, []byte("hello"))
	b = AppendFrame(b, EOF, nil)
	b = AppendFrame(b, Input, bytes.Repeat([]byte("x"), MaxPayload))
	r := Reader{R: iotest.OneByteReader(bytes.NewReader(b))}
	for _, want := range []struct {
		t Type
		n int
	}{{Output, 5}, {EOF, 0}, {Input, MaxPayload}} {
		typ, p, err := r.Next()
		if typ != want.t || len(p) != want.n || err != nil {
			t.Fatalf("got %c of %d bytes (%v), want %c of %d", typ, len(p), err, want.t, want.n)
		}
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

// A connection that breaks within a frame is not a clean end.
func TestTornFrame(t *testing.T) {
	whole := AppendFrame(nil, Output, []byte("hello"))
	for n := 1; n < len(whole); n++ {
		r := Reader{R: bytes.NewReader(whole[:n])}
		if _, _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: %v, want ErrUnexpectedEOF", n, err)
		}
	}
}

func TestExitRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := Exit{Run: "abc", Code: 137, Signal: 9, OOM: true, PeakMemory: 1 << 30, Message: "x"}
	if err := WriteExit(&b, want); err != nil {
		t.Fatal(err)
	}
	r := Reader{R: &b}
	typ, p, err := r.Next()
	got, perr := ParseExit(p)
	if typ != Exited || err != nil || perr != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %c %+v (%v, %v), want %+v", typ, got, err, perr, want)
	}
}

// Whatever is read as frames must be written as the same bytes.
func FuzzFrames(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, Output, []byte("hello")), Exited, []byte("{}")))
	f.Add([]byte{'o', 0xff, 0xff, 0xff})
	f.Add(AppendFrame(AppendFrame(nil, Resize, AppendSize(nil, Size{24, 80})), Resize, []byte{0, 1, 2}))
	f.Add(AppendFrame(nil, Exited, []byte(`{"run":"a","code":137,"signal":9,"took_ns":1}`)))
	f.Add(AppendFrame(nil, Output, nil)[:3])
	f.Fuzz(func(t *testing.T, in []byte) {
		var out []byte
		for r := (Reader{R: bytes.NewReader(in)}); ; {
			typ, p, err := r.Next()
			if err == io.EOF && len(out) < len(in) {
				t.Errorf("%q: a clean end after %d bytes of %d", in, len(out), len(in))
			}
			if err != nil {
				break
			}
			out = AppendFrame(out, typ, p)
			if typ == Exited {
				ParseExit(p)
			}
			if size, ok := ParseSize(p); ok && !bytes.HasPrefix(p, AppendSize(nil, size)) {
				t.Errorf("%q is a size of %v", p, size)
			}
		}
		if !bytes.HasPrefix(in, out) {
			t.Errorf("read and written again: %q, was %q", out, in)
		}
	})
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]struct {
		out    string
		detach bool
	}{
		"~.":         {"", true},
		"ls\r~.more": {"ls\r", true},
		"a~.":        {"a~.", false},
		"\r~~.":      {"\r~.", false},
		"\r~x":       {"\r~x", false},
		"\r~\r~.":    {"\r~\r", true},
	} {
		var e escape
		var got []byte
		detach := false
		for _, b := range []byte(in) { // a byte at a time: a person types
			out, d := e.filter([]byte{b})
			got = append(got, out...)
			if detach = d; d {
				break
			}
		}
		if string(got) != want.out || detach != want.detach {
			t.Errorf("%q gave %q, %v; want %q, %v", in, got, detach, want.out, want.detach)
		}
	}
}

func TestScreenKeepsOnlyTheMainScreen(t *testing.T) {
	in := "before\x1b[?1049h\x1b[?2004;1000hfull screen\x1b[?1049lafter"
	for size := 1; size <= len(in); size++ {
		var s Screen
		var main bytes.Buffer
		for p := []byte(in); len(p) > 0; {
			n := min(size, len(p))
			s.Feed(p[:n], func(b []byte) { main.Write(b) })
			p = p[n:]
		}
		if got := main.String(); !bytes.Contains([]byte(got), []byte("before")) || bytes.Contains([]byte(got), []byte("full")) || !bytes.HasSuffix([]byte(got), []byte("after")) {
			t.Fatalf("in pieces of %d the main screen got %q", size, got)
		}
		if got, want := string(s.Redo()), "\x1b[?1000h\x1b[?2004h"; got != want {
			t.Fatalf("redo is %q, want %q", got, want)
		}
		if got, want := string(s.Undo()), "\x1b[?1000l\x1b[?2004l\x1b[0m"; got != want {
			t.Fatalf("undo is %q, want %q", got, want)
		}
	}
}

func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\x1b[?1049hb\x1b[?25l\x1b[?1049lc"))
	f.Add([]byte("\x1b[?1;2004;1006h\x1b[?47h\x1b[?1047h\x1b[?1049l\x1bc\x1b[?25")) // torn at the end
	f.Add([]byte("\x1b\x1b[?1000h\x1b[?+25l\x1b[?25;l\x1b[?00000000000000000000000000000025l"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var whole, bytewise Screen
		kept := 0
		whole.Feed(in, func(p []byte) { kept += len(p) })
		for i := range in {
			bytewise.Feed(in[i:i+1], nil)
		}
		if kept > len(in) || !bytes.Equal(whole.Redo(), bytewise.Redo()) {
			t.Errorf("%q: kept %d, modes %q whole and %q bytewise", in, kept, whole.Redo(), bytewise.Redo())
		}
		var another Screen // of the client that comes, and leaves again
		another.Feed(whole.Redo(), nil)
		if !bytes.Equal(another.Redo(), whole.Redo()) {
			t.Errorf("%q: redone by %q, which leaves %q", in, whole.Redo(), another.Redo())
		}
		another.Feed(whole.Undo(), nil)
		if left := another.Redo(); len(left) > 0 {
			t.Errorf("%q: undone by %q, which leaves %q", in, whole.Undo(), left)
		}
	})
}

// Reason: an attach carries a size, and clients of before spelled its names as Go does.
func TestSizeOfAnOlderClientIsRead(t *testing.T) {
	var s Size
	d := json.NewDecoder(strings.NewReader(`{"Rows":33,"Cols":101}`))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || s != (Size{33, 101}) {
		t.Errorf("%+v, %v", s, err)
	}
}
