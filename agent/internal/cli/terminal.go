package cli

import (
	"bytes"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// output is where the bytes of others go: to a terminal what it shows, elsewhere, or raw, as they are. The caller
// closes it.
func (g *globals) output(raw bool) io.WriteCloser {
	if raw || !term.IsTerminal(int(g.Out.Fd())) {
		return asIs{g.Out}
	}
	return &shownOutput{w: g.Out}
}

type asIs struct{ io.Writer }

func (asIs) Close() error { return nil }

// shownOutput keeps colours (SGR), tabs and line breaks of what is written, and escapes whatever else a terminal would
// obey: other sequences, C1 controls, and a carriage return that does not end a line, with which a line can be written
// over. git does the same with what a server says, less -R with files.
type shownOutput struct {
	w       io.Writer
	held    []byte // the beginning of what the next write may complete
	out     []byte
	colours bool
}

func (s *shownOutput) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	return len(p), s.flush(false)
}

// Close writes what is held, and ends a colour.
func (s *shownOutput) Close() error {
	err := s.flush(true)
	if s.colours {
		_, err = s.w.Write([]byte("\x1b[0m"))
	}
	return err
}

func (s *shownOutput) flush(ended bool) error {
	rest := s.held
	s.out = s.out[:0]
	for len(rest) > 0 {
		n := s.one(rest, ended)
		if n == 0 {
			break
		}
		rest = rest[n:]
	}
	s.held = s.held[:copy(s.held, rest)]
	_, err := s.w.Write(s.out)
	return err
}

// one adds what b begins with to the output, and returns its length; 0: the rest of it is to come.
func (s *shownOutput) one(b []byte, ended bool) int {
	switch b[0] {
	case '\n', '\t':
		s.out = append(s.out, b[0])
		return 1
	case '\r':
		if len(b) == 1 && !ended {
			return 0
		}
		if bytes.HasPrefix(b, []byte("\r\n")) {
			return 1
		}
	case '\x1b':
		n, whole := sgr(b)
		if !whole && n == len(b) && !ended {
			return 0
		}
		if whole && !conceals(b[2:n-1]) {
			s.out = append(s.out, b[:n]...)
			s.colours = !bytes.Equal(b[:n], []byte("\x1b[m")) && !bytes.Equal(b[:n], []byte("\x1b[0m"))
			return n
		}
	}
	if !utf8.FullRune(b) && !ended {
		return 0
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n == 1 || obeyed(r) {
		s.out = append(s.out, shown(string(b[:n]))...)
	} else {
		s.out = append(s.out, b[:n]...)
	}
	return n
}

// maxSGR is longer than any program's.
const maxSGR = 64

// sgr returns how much of b belongs to a Select Graphic Rendition (ECMA-48, 8.3.117), and whether that is whole.
func sgr(b []byte) (n int, whole bool) {
	for n < min(len(b), maxSGR) {
		c := b[n]
		switch n++; {
		case n == 1 || n == 2 && c == '[':
		case n > 2 && c == 'm':
			return n, true
		case n > 2 && ('0' <= c && c <= ';'):
		default:
			return n - 1, false
		}
	}
	return n, false
}

// conceals reports whether parameters of an SGR hide what follows (8). The 8 of a palette, 38;5;8, does not.
func conceals(parameters []byte) bool {
	for p := strings.Split(string(parameters), ";"); len(p) > 0; p = p[1:] {
		switch strings.TrimLeft(p[0], "0") {
		case "8":
			return true
		case "38", "48", "58": // followed by 5;N or 2;R;G;B
			colour := strings.Join(p[1:min(2, len(p))], "")
			n := map[string]int{"5": 2, "2": 4}[strings.TrimLeft(colour, "0")]
			p = p[min(n, len(p)-1):]
		}
	}
	return false
}

// obeyed reports whether a terminal obeys r instead of showing it: a control character, or one that turns the
// direction of what follows.
func obeyed(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
