package collectors

import (
	"bytes"
	"fmt"
)

// Kernel files are lines of words. These four read them without allocating.

// cutLine splits off the first line, without its newline.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// cutWord splits off the first word; blanks and tabs before it are dropped.
func cutWord(b []byte) (word, rest []byte) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for i, c := range b {
		if c == ' ' || c == '\t' {
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// number reads a decimal number that fills b.
func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// fraction reads a decimal number with or without a fraction: "0.42".
func fraction(b []byte) (f float64, ok bool) {
	whole, part, has := bytes.Cut(b, []byte{'.'})
	n, ok := number(whole)
	if !ok || !has {
		return float64(n), ok
	}
	p, ok := number(part)
	if !ok {
		return 0, false
	}
	f = float64(p)
	for range part {
		f /= 10
	}
	return float64(n) + f, true
}

// lineError tells which line of a kernel file is not what it should be. The line is quoted up to 60 bytes.
func lineError(file string, line int, text []byte, want string) error {
	return fmt.Errorf("read %s: line %d: got %q, want %s", file, line, text[:min(len(text), 60)], want)
}
