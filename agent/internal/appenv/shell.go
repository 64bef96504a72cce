package appenv

import (
	"fmt"
	"strings"
)

// ParseShell reads assignments as a POSIX shell reads them, and as `heroku config -s` writes them: NAME=word, with
// "export" or "declare -x" before it or not, quotes, backslashes, comments. Where heroku's quoting is no shell's,
// heroku's counts, with a note: \n within double quotes is a line end and \! an exclamation mark. The error is
// [Faults]: all places that need a shell (a command, $NAME, `command`) or are no assignment.
//
// Source: POSIX's Shell Command Language, 2.2 and 2.3; heroku/cli src/lib/config/quote.ts.
func ParseShell(data []byte) (File, error) {
	if len(data) > maxTheirs {
		return File{}, Faults{tooLarge(data)}
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	s := shellScanner{src: strings.ReplaceAll(text, "\r\n", "\n")}
	s.seen.text = s.src
	if i := invalidUTF8(s.src); i >= 0 {
		s.fault(i, "is not valid UTF-8")
	}
	if i := strings.IndexByte(s.src, 0); i >= 0 {
		s.fault(i, nulProblem)
	}
	for s.next() {
		s.command()
	}
	vars := merge(s.vars)
	if s.faults = append(s.faults, oversized(vars)...); len(s.faults) > 0 {
		sortFaults(s.faults)
		return File{}, s.faults
	}
	return File{Vars: vars, Dropped: s.dropped, Notes: s.notes}, nil
}

type shellScanner struct {
	src  string
	seen placer // in src
	pos  int
	read int    // assignments
	name string // of the assignment that is being read

	vars                   []Var
	faults, dropped, notes Faults
}

// next moves to the next command, and reports whether there is one.
func (s *shellScanner) next() bool {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '#':
			s.skipLine()
		case strings.IndexByte(" \t\n;", c) >= 0:
			s.pos++
		case strings.HasPrefix(s.src[s.pos:], "\\\n"):
			s.pos += 2
		default:
			return true
		}
	}
	return false
}

// command reads the assignments up to the end of a line, or to ";".
func (s *shellScanner) command() {
	exported := false
	for _, prefix := range []string{"export ", "declare -x ", "typeset -x "} {
		if strings.HasPrefix(s.src[s.pos:], prefix) {
			s.pos, exported = s.pos+len(prefix), true
			break
		}
	}
	for {
		for s.pos < len(s.src) && (s.src[s.pos] == ' ' || s.src[s.pos] == '\t') {
			s.pos++
		}
		if s.pos == len(s.src) || strings.IndexByte("\n;#", s.src[s.pos]) >= 0 {
			return
		}
		if s.read++; s.read > maxDotenvVars {
			s.name = ""
			s.fault(s.pos, tooManyVars)
			s.pos = len(s.src)
			return
		}
		if !s.assignment(exported) {
			s.skipLine()
			return
		}
	}
}

func (s *shellScanner) assignment(exported bool) bool {
	at := s.pos
	n := len(s.src[at:]) - len(strings.TrimLeft(s.src[at:], nodeName))
	s.name, s.pos = s.src[at:at+n], at+n
	switch end := s.pos == len(s.src) || strings.IndexByte(" \t\n;", s.src[s.pos]) >= 0; {
	case n > 0 && end && exported:
		s.dropped = append(s.dropped, s.at(at, `has no "=", and so no value`))
		return true
	case n == 0 || end || s.src[s.pos] != '=':
		s.name = "" // it may be a part of a value
		s.fault(at, "expected NAME=value, found another word: only a shell can read it")
		return false
	}
	s.pos++
	line, _ := s.seen.of(at)
	value, ok := s.word()
	if ok {
		s.vars = append(s.vars, Var{Name: s.name, Line: line, value: &value})
	}
	return ok
}

// word reads a value: its pieces up to a blank, a line end or ";".
func (s *shellScanner) word() (string, bool) {
	var b strings.Builder
	if s.pos < len(s.src) && s.src[s.pos] == '~' {
		s.note(s.pos, `"~" is kept, as heroku means it; a shell puts a home directory there`)
	}
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case strings.IndexByte(" \t\n;", c) >= 0:
			return b.String(), true
		case c == '\'':
			end := indexFrom(s.src, s.pos+1, '\'')
			if end < 0 {
				return "", s.unclosed()
			}
			b.WriteString(s.src[s.pos+1 : end])
			s.pos = end + 1
		case c == '"':
			if !s.doubleQuoted(&b) {
				return "", false
			}
		case c == '\\' && s.pos+1 < len(s.src):
			if s.src[s.pos+1] != '\n' {
				b.WriteByte(s.src[s.pos+1])
			}
			s.pos += 2
		case strings.IndexByte("&|<>()", c) >= 0 || s.expands(s.pos, shellBegins):
			s.fault(s.pos, fmt.Sprintf("%q without quotes: only a shell can read it", c))
			return "", false
		default:
			b.WriteByte(c)
			s.pos++
		}
	}
	return b.String(), true
}

// shellWords returns the words of a line that begins with one, and whether a shell reads them without expansions.
func shellWords(line string) (words []string, ok bool) {
	s := shellScanner{src: line}
	for {
		word, ok := s.word()
		if words = append(words, word); !ok || s.pos == len(line) {
			return words, ok
		}
		for s.pos < len(line) && strings.IndexByte(" \t\n;", line[s.pos]) >= 0 {
			s.pos++
		}
	}
}

// doubleQuoted reads a piece in double quotes.
func (s *shellScanner) doubleQuoted(b *strings.Builder) bool {
	for i := s.pos + 1; i < len(s.src); i++ {
		c := s.src[i]
		switch {
		case c == '"':
			s.pos = i + 1
			return true
		case c == '\\' && i+1 < len(s.src):
			i++
			s.escaped(b, i)
			continue
		case s.expands(i, strings.Trim(shellBegins, `'"`)):
			s.pos = i
			s.fault(i, fmt.Sprintf("%q is not escaped: only a shell can read it", c))
			return false
		}
		b.WriteByte(c)
	}
	return s.unclosed()
}

// escaped writes what the byte at i means after a backslash in double quotes.
func (s *shellScanner) escaped(b *strings.Builder, i int) {
	switch c := s.src[i]; c {
	case '$', '`', '"', '\\':
		b.WriteByte(c)
	case '\n':
	case 'n':
		b.WriteByte('\n')
		s.note(i-1, `\n is a line end, as heroku means it; a shell keeps the backslash and the n`)
	case '!':
		b.WriteByte('!')
		s.note(i-1, `\! is an exclamation mark, as heroku means it; a shell keeps the backslash`)
	default:
		b.WriteByte('\\')
		b.WriteByte(c)
	}
}

// shellBegins are the bytes after "$" with which a shell's expansion or special quote begins.
const shellBegins = "'{(@*#?$!-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz\""

// expands reports whether a shell would replace what begins at i: a backtick, or "$" before a byte of begins.
func (s *shellScanner) expands(i int, begins string) bool {
	return s.src[i] == '`' || s.src[i] == '$' && i+1 < len(s.src) && strings.IndexByte(begins, s.src[i+1]) >= 0
}

func (s *shellScanner) unclosed() bool {
	s.fault(s.pos, "the quote is not closed")
	s.pos = len(s.src)
	return false
}

func (s *shellScanner) skipLine() {
	if s.pos = indexFrom(s.src, s.pos, '\n'); s.pos < 0 {
		s.pos = len(s.src)
	}
}

func (s *shellScanner) at(offset int, problem string) Fault {
	line, column := s.seen.of(offset)
	return Fault{Line: line, Column: column, Name: nameOnly(s.name), Problem: problem}
}

func (s *shellScanner) fault(offset int, problem string) {
	s.faults = append(s.faults, s.at(offset, problem))
}
func (s *shellScanner) note(offset int, problem string) {
	s.notes = append(s.notes, s.at(offset, problem))
}
