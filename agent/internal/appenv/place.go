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

// place returns the line of an offset and its column in characters, both from 1.
func place(text string, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	start := strings.LastIndexByte(before, '\n') + 1
	return 1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:])
}

// sortFaults puts faults in the order of their places.
func sortFaults(faults Faults) {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}
