package appenv

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// SystemdVersion selects the grammar of EnvironmentFile=. Versions differ in a backslash inside double quotes (247) and
// inside single quotes (241), control characters in a value (246), and a comment that ends in a backslash (254).
type SystemdVersion int

// The versions of Beanstalk's platforms.
const (
	AmazonLinux2    SystemdVersion = 219
	AmazonLinux2023 SystemdVersion = 252
)

// ParseSystemd reads data as systemd reads an EnvironmentFile= and returns a service's variables. The zero version is
// [AmazonLinux2023]. The error is [Faults] when systemd would not start the service: NUL (from 246), text that is not
// UTF-8, a value beyond the kernel's limit.
//
// The grammar (systemd.exec(5), systemd's own reader, and the real systemd in this package's tests): "#" and ";" begin
// a comment only at the start of a line; nothing is expanded; a quote counts at the start of the value or after a
// closing quote, and may span lines; CR ends a line as LF does; blanks around an unquoted value are removed, as are
// those after a closing quote, and the text after them is appended; a name that is no shell variable is dropped.
func ParseSystemd(data []byte, version SystemdVersion) (File, error) {
	if version == 0 {
		version = AmazonLinux2023
	}
	var faults Faults
	if i := bytes.IndexByte(data, 0); i >= 0 {
		if version >= 246 {
			line, column := place(string(data), i)
			faults = append(faults,
				Fault{Line: line, Column: column, Problem: "has a NUL byte; systemd refuses the whole file"})
		}
		data = data[:i]
	}
	s := systemdScanner{version: version, data: string(data), line: 1, lineFrom: len(data)}
	lines := 1 + bytes.Count(data, []byte{'\n'}) + bytes.Count(data, []byte{'\r'})
	limit := min(bytes.Count(data, []byte{'='}), lines)
	s.values = make([]string, 0, limit)
	all := make([]Var, 0, limit)
	for s.next() {
		v := s.assignment()
		f := checkSystemd(v, version)
		if f != nil {
			f.Column = s.column
		}
		switch {
		case f == nil:
			all = append(all, v)
			if s.lineEnds {
				s.notes = append(s.notes,
					Fault{Line: v.Line, Column: s.column, Name: nameOnly(v.Name), Problem: lineEndNote})
			}
		case f.fatal:
			faults = append(faults, f.Fault)
		default:
			s.dropped = append(s.dropped, f.Fault)
			if version < 246 && isVariableName(v.Name) { // it drops an earlier assignment before it checks this one
				all = slices.DeleteFunc(all, func(earlier Var) bool { return earlier.Name == v.Name })
			}
		}
	}
	all = merge(all)
	faults = append(faults, oversized(all)...)
	sortFaults(faults)
	if len(faults) > 0 {
		return File{}, faults
	}
	return File{Vars: all, Dropped: s.dropped, Notes: s.notes}, nil
}

const lineEndNote = `\n within the quotes is no line end for systemd; in the output of heroku config -s it is one ` +
	"(--format shell)"

// lineFault is a fault of the whole file, or one that drops an assignment.
type lineFault struct {
	Fault
	fatal bool
}

// checkSystemd reports why systemd would not pass v on, or nil.
func checkSystemd(v Var, version SystemdVersion) *lineFault {
	value := v.Value()
	fault := func(fatal bool, problem string) *lineFault {
		return &lineFault{Fault{Line: v.Line, Name: nameOnly(v.Name), Problem: problem}, fatal}
	}
	switch {
	case !validUTF8(v.Name) || !validUTF8(value):
		return fault(true, "is not valid UTF-8; systemd refuses the whole file")
	case !isVariableName(v.Name):
		return fault(false, notAName(v.Name)+"; systemd drops it, the application does not have it")
	case version < 246 && hasControl(value):
		return fault(false, "the value has a newline or another control character; "+
			"this systemd drops it, the application does not have it")
	}
	return nil
}

// notAName says why s is no variable name, without repeating s.
func notAName(s string) string {
	switch {
	case s == "":
		return `"=" without a name before it`
	case strings.HasPrefix(s, "export ") || strings.HasPrefix(s, "export\t"):
		return `"export" before the name is not part of this grammar`
	case '0' <= s[0] && s[0] <= '9':
		return "the name begins with a digit"
	}
	for _, r := range s {
		if !isVariableName("_" + string(r)) {
			return fmt.Sprintf("the name has %q, not only letters, digits and _", r)
		}
	}
	return "not a variable name"
}

// hasControl reports whether s has a control character other than a tab.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// validUTF8 applies systemd's rules: no surrogates and no noncharacters.
func validUTF8(s string) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if n == 1 || 0xFDD0 <= r && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return false
		}
		i += n
	}
	return true
}

const blanks = " \t\n\r"

// systemdScanner scans the assignments of a file.
type systemdScanner struct {
	version SystemdVersion
	data    string // not scanned yet
	line    int    // of the first byte of data
	dropped Faults
	notes   Faults

	lineFrom   int // how much of the file was not scanned at the last line's start
	name       string
	at, column int  // of name; before it are blanks only
	lineEnds   bool // the value has \n within quotes
	buf        []byte

	values []string // of all assignments: a Var points into it
}

// take consumes n bytes.
func (s *systemdScanner) take(n int) string {
	t := s.data[:n]
	if i := strings.LastIndexByte(t, '\n'); i >= 0 {
		s.line += strings.Count(t, "\n")
		s.lineFrom = len(s.data) - i - 1
	}
	s.data = s.data[n:]
	return t
}

// skip consumes leading bytes of set.
func (s *systemdScanner) skip(set string) {
	i := 0
	for i < len(s.data) && strings.IndexByte(set, s.data[i]) >= 0 {
		if s.data[i] == '\n' {
			s.line++
			s.lineFrom = len(s.data) - i - 1
		}
		i++
	}
	s.data = s.data[i:]
}

// next moves to the first byte after the "=" of the next assignment, and reports whether there is one.
func (s *systemdScanner) next() bool {
	for {
		s.skip(blanks)
		if s.data == "" {
			return false
		}
		if s.data[0] == '#' || s.data[0] == ';' {
			s.comment()
			continue
		}
		s.at, s.column = s.line, 1+s.lineFrom-len(s.data)
		// The first byte of a name is not examined: a "=" there is part of the name.
		end := strings.IndexAny(s.data[1:], "=\n\r") + 1
		if end == 0 {
			s.skipped(len(s.data))
			s.data = ""
			return false
		}
		if s.data[end] == '=' {
			s.name = strings.TrimRight(s.take(end), blanks)
			s.take(1)
			return true
		}
		s.take(end)
		s.skipped(end)
	}
}

func (s *systemdScanner) skipped(bytes int) {
	problem := fmt.Sprintf(`a line of %d bytes without "="; systemd skips it`, bytes)
	s.dropped = append(s.dropped, Fault{Line: s.at, Column: s.column, Problem: problem})
}

// comment consumes a comment. Before 254 a backslash at its end continued it in the next line.
func (s *systemdScanner) comment() {
	for i := 0; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '\\' && s.version < 254:
			i++
		case c == '\n' || c == '\r':
			s.take(i)
			return
		}
	}
	s.data = ""
}

// assignment consumes a value with the line end after it.
func (s *systemdScanner) assignment() Var {
	s.lineEnds = false
	if value, ok := s.simple(); ok {
		return s.made(value)
	}
	s.buf = s.buf[:0]
	for {
		s.skip(" \t")
		if s.data == "" {
			break
		}
		c := s.data[0]
		if c == '\n' || c == '\r' {
			s.take(1)
			break
		}
		if c == '\'' || c == '"' {
			s.quoted(c)
			continue
		}
		s.unquoted()
		break
	}
	return s.made(string(s.buf))
}

func (s *systemdScanner) made(value string) Var {
	s.values = append(s.values, value)
	return Var{Name: s.name, Line: s.at, value: &s.values[len(s.values)-1]}
}

// simple consumes a value without quotes and backslashes, as most are.
func (s *systemdScanner) simple() (string, bool) {
	end := strings.IndexAny(s.data, "\n\r\\")
	if end < 0 || s.data[end] == '\\' {
		return "", false
	}
	value := strings.Trim(s.data[:end], " \t")
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		return "", false
	}
	s.take(end + 1)
	return value, true
}

// unquoted consumes the rest of an assignment from its first unquoted byte: quotes do not count any more, a backslash
// keeps the byte after it or joins the next line, and trailing blanks are removed unless escaped.
func (s *systemdScanner) unquoted() {
	keep := len(s.buf) // trailing blanks are cut back to here
	for i := 0; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '\\':
			// An escape, even of a line end, protects the blanks before it.
			keep = len(s.buf)
			if i++; i < len(s.data) && s.data[i] != '\n' && s.data[i] != '\r' {
				s.buf = append(s.buf, s.data[i])
				keep = len(s.buf)
			}
		case c == '\n' || c == '\r':
			s.take(i + 1)
			s.buf = s.buf[:keep]
			return
		default:
			s.buf = append(s.buf, c)
			if c != ' ' && c != '\t' {
				keep = len(s.buf)
			}
		}
	}
	s.buf = s.buf[:keep]
	s.data = ""
}

// quoted consumes a quoted segment, or to the end of the file when it is not closed, as systemd does.
func (s *systemdScanner) quoted(quote byte) {
	i := 1
	for ; i < len(s.data) && s.data[i] != quote; i++ {
		c := s.data[i]
		if c != '\\' || quote == '\'' && s.version >= 241 {
			s.buf = append(s.buf, c)
			continue
		}
		if i++; i == len(s.data) {
			break
		}
		c = s.data[i]
		s.lineEnds = s.lineEnds || c == 'n' && quote == '"'
		switch {
		case s.version < 247:
			if c != '\n' && c != '\r' {
				s.buf = append(s.buf, c)
			}
		case strings.IndexByte("\"\\`$", c) >= 0:
			s.buf = append(s.buf, c)
		case c != '\n':
			s.buf = append(s.buf, '\\', c)
		}
	}
	s.take(min(i+1, len(s.data)))
}
