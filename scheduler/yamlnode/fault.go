package yamlnode

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Fault is an error or a warning at one place of a file.
type Fault struct {
	File         string // as given to [Source]
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

// Faults are all errors of a file, in the order of its lines. As an error it prints one line each.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Sorted returns them by line and column.
func (fs Faults) Sorted() Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return fs
}

// Source is the text being read, with its faults so far.
type Source struct {
	File     string
	Lines    []string // set by Read
	Faults   Faults
	Warnings Faults

	more int // faults beyond MaxFaults
}

// MaxFaults is how many faults are kept: a file of another kind altogether must not cost a hundred times its size.
const MaxFaults = 1000

// maxMessage is how many bytes of a message are kept.
const maxMessage = 500

// Read splits data into lines, without a byte order mark and with line feeds alone between them, and returns them as
// one text. What is not text is a fault.
func (s *Source) Read(data []byte) (text string, ok bool) {
	text = strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	s.Lines = strings.Split(text, "\n")
	for i, line := range s.Lines {
		if at := strings.IndexFunc(line, unprintable); at >= 0 {
			s.Fault(i+1, Column(line, at), "save the file as UTF-8 text", "a character that is not text")
			return "", false
		}
	}
	return text, true
}

// unprintable reports whether r cannot stand in a file: not UTF-8, or a control character, which nothing needs and a
// terminal would obey.
func unprintable(r rune) bool {
	return r == utf8.RuneError || r != '\t' && unicode.IsControl(r)
}

// Column turns a byte offset of a line into a column, counted in characters from 1.
func Column(line string, at int) int {
	return utf8.RuneCountInString(line[:max(min(at, len(line)), 0)]) + 1
}

// Fault adds an error at line and column, with a hint what to do about it.
func (s *Source) Fault(line, column int, hint, format string, args ...any) {
	if len(s.Faults) >= MaxFaults {
		s.more++
		return
	}
	s.Faults = append(s.Faults, s.At(line, column, hint, fmt.Sprintf(format, args...)))
}

// Warn adds a warning: something that is allowed but probably not meant.
func (s *Source) Warn(line, column int, hint, format string, args ...any) {
	if len(s.Warnings) >= MaxFaults {
		return
	}
	s.Warnings = append(s.Warnings, s.At(line, column, hint, fmt.Sprintf(format, args...)))
}

// Err is nil without a fault, else all of them, sorted.
func (s *Source) Err() error {
	if len(s.Faults) == 0 {
		return nil
	}
	faults := s.Faults.Sorted()
	if s.more > 0 {
		last := faults[len(faults)-1]
		faults = append(faults, s.At(last.Line, last.Column, "", fmt.Sprintf("and %d more faults", s.more)))
	}
	return faults
}

// oneLine keeps a name with a line break in it, as of a YAML reference, from looking like a fault of its own.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// At is a fault that is not added.
func (s *Source) At(line, column int, hint, message string) Fault {
	line, column = max(line, 1), max(column, 1)
	if len(message) > maxMessage { // it quotes the file
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	f := Fault{File: s.File, Line: line, Column: column, Message: oneLine.Replace(message), Hint: hint}
	if line <= len(s.Lines) {
		f.Excerpt = excerpt(s.Lines[line-1], column)
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
