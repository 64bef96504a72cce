package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Fault is an error or a warning at one place of a cron file.
type Fault struct {
	File         string // as given to [Parse]
	Line, Column int    // from 1; the column counts characters
	Message      string // what is wrong; never a command or a value of the environment
	Hint         string // what to do about it; may be empty
	Excerpt      string // the line and a mark below it; do not log it: it may show a secret
}

// String gives the fault on one line, without the excerpt: FILE:LINE:COLUMN: …
func (f Fault) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// Faults are all errors of a cron file, in the order of its lines. As an error it prints one line each.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// source is the text being parsed, with its faults so far.
type source struct {
	file     string
	lines    []string
	faults   Faults
	warnings Faults
	more     int // faults beyond maxFaults

	inJob bool // what is read now belongs to one job alone
	whole bool // a fault was not of one job alone: no job of the file can be taken
}

// maxFaults is how many faults are kept: a file of another kind altogether must not cost a hundred times its size.
const maxFaults = 1000

// maxMessage is how many bytes of a message are kept.
const maxMessage = 500

// fault adds an error at line and column, with a hint what to do about it.
func (s *source) fault(line, column int, hint, format string, args ...any) {
	s.whole = s.whole || !s.inJob
	if len(s.faults) >= maxFaults {
		s.more++
		return
	}
	s.faults = append(s.faults, s.at(line, column, hint, fmt.Sprintf(format, args...)))
}

// warn adds a warning: something that is allowed but probably not meant.
func (s *source) warn(line, column int, hint, format string, args ...any) {
	if len(s.warnings) >= maxFaults {
		return
	}
	s.warnings = append(s.warnings, s.at(line, column, hint, fmt.Sprintf(format, args...)))
}

// oneLine keeps a name with a line break in it, as of a YAML reference, from looking like a fault of its own.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

func (s *source) at(line, column int, hint, message string) Fault {
	line, column = max(line, 1), max(column, 1)
	if len(message) > maxMessage { // it quotes the file
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	f := Fault{File: s.file, Line: line, Column: column, Message: oneLine.Replace(message), Hint: hint}
	if line <= len(s.lines) {
		f.Excerpt = excerpt(s.lines[line-1], column)
	}
	return f
}

// excerpt shows a line with a mark under the column. Tabs are kept in the second line
// so that the mark stands where a terminal puts it.
func excerpt(line string, column int) string {
	const longest = 160
	r := []rune(line)
	var mark strings.Builder
	for i := 0; i < column-1 && i < len(r); i++ {
		if r[i] == '\t' {
			mark.WriteByte('\t')
		} else {
			mark.WriteByte(' ')
		}
	}
	if column > longest || len(r) > longest {
		from := min(max(column-longest/2, 0), len(r))
		to := min(from+longest, len(r))
		return string(r[from:to]) + "\n" + strings.Repeat(" ", max(column-1-from, 0)) + "^"
	}
	return line + "\n" + mark.String() + "^"
}

// byPlace sorts faults by line and column.
func byPlace(fs Faults) Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return fs
}
