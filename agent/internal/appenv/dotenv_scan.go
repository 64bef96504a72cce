package appenv

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// statement is one assignment as the file has it, by offsets.
type statement struct {
	name       string
	at         int    // of the statement's first byte
	value, end int    // of the value with its quotes
	quote      byte   // 0 without
	faulty     int    // of what makes it no assignment
	alone      string // its name, if nothing else is there

	colon bool // NAME: value
	early bool // its quote is closed where python-dotenv reads on
	loose bool // its quote is closed where python-dotenv stops reading
}

// dotenvScanner finds the statements of a .env file. Source: python-dotenv's parser.py. Every search for a quote or a
// brace begins where the last one ended: a file costs time in proportion to its size.
type dotenvScanner struct {
	src  string
	seen placer // in src
	pos  int

	closers [2]closers
}

// closers are the next quotes of one kind.
type closers struct {
	odd   quoteAt // by python-dotenv: the next one without a backslash before it, or else the last one
	even  quoteAt // the next one that no backslash escapes, itself not escaped
	last  int     // in the whole file
	quote byte
}

type quoteAt struct {
	i    int  // -1: none
	ends bool // nothing but a comment follows in its line
}

func (s *dotenvScanner) init(src string) {
	s.src, s.seen.text = src, src
	for i, q := range []byte{'"', '\''} {
		s.closers[i] = closers{quote: q, last: strings.LastIndexByte(src, q)}
	}
}

// next returns the next statement, or one that is to be dropped with what is wrong with it.
func (s *dotenvScanner) next() (st statement, problem string, ok bool) {
	for {
		s.pos = s.skip(s.pos, true)
		if s.pos == len(s.src) {
			return st, "", false
		}
		st = statement{at: s.pos}
		name := s.export(s.pos)
		if s.src[name:] != "" && s.src[name] == '#' {
			s.pos = s.lineEnd(name)
			continue
		}
		if problem = s.assignment(&st, name); problem == "" && strings.Contains(st.name, "=") {
			problem = `the quoted name has a "=", which no variable's name can have`
		}
		s.pos = s.lineEnd(max(s.pos, st.end))
		return st, problem, true
	}
}

// assignment scans a statement from its name. On a fault s.pos is in the last line that it takes.
func (s *dotenvScanner) assignment(st *statement, i int) (problem string) {
	st.faulty = i
	name, end := s.name(i)
	if name == "" {
		return "expected NAME=value, found no name"
	}
	i = s.skip(end, false)
	s.pos = i
	switch bare, colon := strings.CutSuffix(name, ":"); {
	case i < len(s.src) && s.src[i] == '=':
		st.name = name
		i++
	case colon && i > end && !s.ends(i) && isNodeName(bare) && s.src[st.faulty] != '\'':
		st.name, st.colon = bare, true
	case s.ends(i): // without a name in the fault: it may be a part of a value
		st.alone = name
		return `has no "=", and so no value`
	default:
		st.faulty = i
		return `expected NAME=value, found no "=" after the first word`
	}
	st.value = s.skip(i, false)
	if st.value < len(s.src) && (s.src[st.value] == '"' || s.src[st.value] == '\'') {
		problem = s.quoted(st)
		if st.colon {
			s.pos = i // python-dotenv stops there
		}
		return problem
	}
	st.end = s.unquoted(st.value)
	return ""
}

// export skips "export" and blanks.
func (s *dotenvScanner) export(i int) int {
	if after := i + len("export"); strings.HasPrefix(s.src[i:], "export") {
		if name := s.skip(after, false); name > after {
			return name
		}
	}
	return i
}

// name returns the name that begins at i, and where it ends: to a blank, "=" or "#", or within single quotes.
func (s *dotenvScanner) name(i int) (name string, end int) {
	if i < len(s.src) && s.src[i] == '\'' {
		n := strings.IndexByte(s.src[i+1:], '\'')
		if n <= 0 {
			return "", i
		}
		return s.src[i+1 : i+1+n], i + n + 2
	}
	n := strings.IndexFunc(s.src[i:], func(r rune) bool { return r == '=' || r == '#' || isPythonSpace(r) })
	if n < 0 {
		n = len(s.src) - i
	}
	return s.src[i : i+n], i + n
}

// unquoted returns the end of the value that begins at i: a comment begins at the first "#" after a blank.
func (s *dotenvScanner) unquoted(i int) int {
	text := s.src[i:s.lineEnd(i)]
	for at, r := range text {
		if before, _ := utf8.DecodeLastRuneInString(text[:at]); r == '#' && at > 0 && isPythonSpace(before) {
			text = text[:at]
			break
		}
	}
	return i + len(strings.TrimRightFunc(text, isPythonSpace))
}

// quoted finds the end of a quoted value. A backslash escapes a backslash, too, if the value then ends with its line:
// python-dotenv, which decodes that escape, would go on to the next quote.
func (s *dotenvScanner) quoted(st *statement) (problem string) {
	st.quote = s.src[st.value]
	c := &s.closers[0]
	if st.quote != c.quote {
		c = &s.closers[1]
	}
	s.closing(c, st.value+1)
	switch {
	case c.even.ends:
		st.end, st.early = c.even.i+1, c.even.i != c.odd.i
	case c.odd.ends:
		st.end = c.odd.i + 1
	case s.quotesWithin(st):
		st.loose = true
	case c.odd.i < 0:
		st.faulty, s.pos = st.value, st.value
		return "the quote that begins the value is not closed"
	default:
		st.faulty, s.pos = s.skip(c.odd.i+1, false), c.odd.i
		return "something follows the value's closing quote"
	}
	return ""
}

// quotesWithin reports whether the value goes to its line's last quote, as for Node's dotenv, in spite of the quotes
// between. There is a doubt when a shell finds its way through them, to another value, and with two quotes in front.
func (s *dotenvScanner) quotesWithin(st *statement) bool {
	line := s.src[st.value:s.lineEnd(st.value)]
	line = line[:strings.LastIndexByte(line, st.quote)+1]
	if len(line) == 1 || line[1] == st.quote || !s.ends(st.value+len(line)) {
		return false
	}
	st.end = st.value + len(line)
	if words, ok := shellWords(line); ok && (len(words) > 1 || words[0] != line[1:len(line)-1]) {
		st.end = 0
	}
	return st.end > 0
}

// closing moves to the first quotes from an offset on.
func (s *dotenvScanner) closing(c *closers, from int) {
	if c.odd.i >= 0 && c.odd.i < from {
		c.odd.i = from - 1
		for more := true; more; more = c.odd.i >= from && s.src[c.odd.i-1] == '\\' {
			c.odd.i = indexFrom(s.src, c.odd.i+1, c.quote)
		}
		if c.odd.i < 0 && c.last >= from {
			c.odd.i = c.last
		}
		c.odd.ends = c.odd.i >= 0 && s.ends(c.odd.i+1)
	}
	if c.even.i >= 0 && c.even.i < from {
		i := from
		for i < len(s.src) && s.src[i] != c.quote {
			if s.src[i] == '\\' {
				i++
			}
			i++
		}
		if c.even.i = i; i >= len(s.src) {
			c.even.i = -1
		}
		c.even.ends = c.even.i >= 0 && s.ends(c.even.i+1)
	}
}

func indexFrom(s string, from int, c byte) int {
	if i := strings.IndexByte(s[from:], c); i >= 0 {
		return from + i
	}
	return -1
}

// ends reports whether nothing but blanks and a comment follows in the line of i.
func (s *dotenvScanner) ends(i int) bool {
	i = s.skip(i, false)
	return i == len(s.src) || s.src[i] == '\n' || s.src[i] == '#'
}

func (s *dotenvScanner) lineEnd(i int) int {
	if n := strings.IndexByte(s.src[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(s.src)
}

// skip returns the offset of what follows blanks, and line ends if lines is set.
func (s *dotenvScanner) skip(i int, lines bool) int {
	n := strings.IndexFunc(s.src[i:], func(r rune) bool { return !isPythonSpace(r) || r == '\n' && !lines })
	if n < 0 {
		return len(s.src)
	}
	return i + n
}

// isPythonSpace reports whether r is a blank for Python's \s.
func isPythonSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }
