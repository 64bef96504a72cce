package appenv

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// maxDotenvVars is the most that a .env file has, which the application's user can write.
const maxDotenvVars = 5000

// ParseDotenv reads a .env file: the values are godotenv's (quotes, escapes, ${NAME} of the same file, "export ").
// This function adds the order, each name's line, and faults that name a line and never quote the file. A name that
// godotenv accepts but a shell does not ("a.b") is kept: execve takes it. The error is [Faults].
func ParseDotenv(data []byte) (File, error) {
	if len(data) > maxTheirs {
		return File{}, Faults{{Problem: fmt.Sprintf("has %d bytes, at most %d are read", len(data), maxTheirs)}}
	}
	names, statements, fault := scanDotenv(strings.ReplaceAll(string(data), "\r\n", "\n"))
	if fault != nil {
		return File{}, Faults{*fault}
	}
	// godotenv replaces each "\r\n", too. Its own error quotes the file, so it is not returned; scanDotenv has found
	// the fault already.
	values, err := godotenv.Unmarshal(strings.ReplaceAll(statements, "\n", "\r\n"))
	if err != nil {
		return File{}, Faults{{Line: 1, Problem: "is not a .env file"}}
	}
	var faults Faults
	for i, v := range names {
		value, ok := values[v.Name]
		if !ok {
			return File{}, Faults{{Line: v.Line, Problem: "is not a .env file"}}
		}
		names[i].value = &value
		if strings.IndexByte(v.Name, 0) >= 0 || strings.IndexByte(value, 0) >= 0 {
			faults = append(faults, Fault{Line: v.Line, Name: nameOnly(v.Name), Problem: nulProblem})
		}
	}
	names = merge(names)
	faults = append(faults, oversized(names)...)
	if len(faults) > 0 {
		return File{}, faults
	}
	return File{Vars: names}, nil
}

// scanDotenv scans the statements as godotenv does and returns each name with its line, without values, and the
// statements alone, a blank and a line end after each. So godotenv, which recurses for each comment and searches for
// a blank after each "export", needs time and memory only for what a statement has.
func scanDotenv(src string) (names []Var, statements string, _ *Fault) {
	var out strings.Builder
	sizes := dotenvSizes{of: map[string]int{}}
	line := 1
	for rest := src; ; {
		start := dotenvStatement(rest)
		if start == "" {
			return names, out.String(), nil
		}
		line += strings.Count(rest[:len(rest)-len(start)], "\n")
		name, n, bad := dotenvName(start)
		rest = strings.TrimLeftFunc(start[n:], isDotenvBlank)
		length := dotenvValue(rest)
		fault := Fault{Line: line, Name: nameOnly(name)}
		switch {
		case len(names) == maxDotenvVars:
			fault = Fault{Line: line, Problem: fmt.Sprintf("more than %d variables", maxDotenvVars)}
		case bad != "":
			fault.Problem = "expected NAME=value, found " + bad + " in the name"
		case name == "":
			fault.Problem = `expected NAME=value, found no "="`
		case length < 0:
			fault.Problem = "the quote that begins the value is not closed"
		case !utf8.ValidString(name + rest[:length]): // godotenv would replace invalid bytes
			fault.Problem = "is not valid UTF-8"
		case !sizes.add(name, rest[:length]):
			fault.Problem = fmt.Sprintf("once each ${NAME} is replaced, the values up to here are more than %d bytes; "+
				"no process can be started with them", maxEnviron)
		}
		if fault.Problem != "" {
			return nil, "", &fault
		}
		names = append(names, Var{Name: name, Line: line})
		rest = rest[length:]
		statement := start[:len(start)-len(rest)]
		line += strings.Count(statement, "\n")
		out.WriteString(statement)
		out.WriteString(" \n")
	}
}

// dotenvSizes bounds the values before godotenv replaces each ${NAME} in them: ten lines that each name the one before
// ten times are 10 GB.
type dotenvSizes struct {
	of          map[string]int // by name
	most, total int
}

// add reports whether all values up to this one, as the file has it, can be given to a process.
func (s *dotenvSizes) add(name, value string) bool {
	n := len(value)
	for i, c := range value {
		if c != '$' || value[0] == '\'' || i > 0 && value[i-1] == '\\' { // which keep the "$"
			continue
		}
		ref := strings.TrimLeft(value[i+1:], `({\`)
		end := len(ref) - len(strings.TrimLeft(ref, capitals))
		rest := strings.TrimLeft(ref[end:], `\`)
		if len(rest) < len(ref)-end && rest != "" && strings.IndexByte(capitals, rest[0]) >= 0 {
			n += s.most // godotenv removes a backslash, so that the name may be any variable's
		} else {
			n += s.of[ref[:end]]
		}
	}
	s.of[name], s.most, s.total = n, max(s.most, n), s.total+n
	return s.total <= maxEnviron
}

// capitals are the bytes of a name that ${NAME} can have.
const capitals = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

// dotenvStatement skips blank lines and comments.
func dotenvStatement(s string) string {
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if !strings.HasPrefix(s, "#") {
			return s
		}
		i := strings.IndexByte(s, '\n')
		if i < 0 {
			return ""
		}
		s = s[i:]
	}
}

// dotenvName returns the name that s begins with, its length with the "=" or ":", and its fault, if any.
func dotenvName(s string) (name string, n int, bad string) {
	skipped := len(s)
	s = strings.TrimLeftFunc(s, isDotenvBlank)
	if after, ok := strings.CutPrefix(s, "export"); ok {
		if trimmed := strings.TrimLeftFunc(after, isDotenvBlank); trimmed != after {
			s = trimmed
		}
	}
	skipped -= len(s)
	// By bytes, as godotenv does: a letter outside ASCII counts as Latin-1 bytes.
	for i := range len(s) {
		r := rune(s[i])
		switch {
		case r == '=' || r == ':':
			return strings.TrimRightFunc(s[:i], unicode.IsSpace), skipped + i + 1, ""
		case isDotenvBlank(r) || r == '_' || r == '.' || unicode.IsLetter(r) || unicode.IsNumber(r):
		case r == '\n':
			return "", 0, "a line end"
		default:
			return "", 0, "a character that is no letter, digit, _ or ."
		}
	}
	return "", skipped, ""
}

// dotenvValue returns the length of the value that s begins with, or -1 when its quote is not closed.
func dotenvValue(s string) int {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if i := strings.IndexAny(s, "\n\r"); i >= 0 {
			return i
		}
		return len(s)
	}
	for i := 1; i < len(s); i++ {
		if s[i] == s[0] && s[i-1] != '\\' {
			return i + 1
		}
	}
	return -1
}

// isDotenvBlank reports whether r is a blank within a line for godotenv.
func isDotenvBlank(r rune) bool {
	switch r {
	case '\t', '\v', '\f', '\r', ' ', 0x85, 0xA0:
		return true
	}
	return false
}
