package appenv

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// tooLarge is the fault of more bytes than a file of the application's user has.
func tooLarge(data []byte) Fault {
	return Fault{Problem: fmt.Sprintf("has %d bytes, at most %d are read", len(data), maxTheirs)}
}

// wrongEncoding is the fault of a file that has two bytes for each character, as Windows PowerShell writes it.
func wrongEncoding(data []byte) *Fault {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return &Fault{Line: 1, Column: 1, Problem: "is UTF-16, not UTF-8: save it as UTF-8"}
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// place is for one offset of a text.
func place(text string, offset int) (line, column int) { return (&placer{text: text}).of(offset) }

// placer finds the places of offsets in a text, each from the last one.
type placer struct {
	text string

	at, lines, columns int // the last offset, and how many lines and characters of its line are before it
}

// of returns the line of an offset and its column in characters, both from 1.
func (p *placer) of(offset int) (line, column int) {
	if offset = min(offset, len(p.text)); offset < p.at { // back to the start of its line
		start := strings.LastIndexByte(p.text[:offset], '\n') + 1
		p.at, p.lines, p.columns = start, p.lines-strings.Count(p.text[start:p.at], "\n"), 0
	}
	between := p.text[p.at:offset]
	if n := strings.Count(between, "\n"); n > 0 {
		p.lines, p.columns = p.lines+n, 0
		between = between[strings.LastIndexByte(between, '\n')+1:]
	}
	p.at, p.columns = offset, p.columns+utf8.RuneCountInString(between)
	return 1 + p.lines, 1 + p.columns
}

// tooManyVars is the problem of more variables than a file of the application's user may have.
var tooManyVars = fmt.Sprintf("more than %d variables", maxDotenvVars)

// sortFaults puts faults in the order of their places.
func sortFaults(faults Faults) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}
