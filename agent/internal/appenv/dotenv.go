package appenv

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// ParseDotenv reads a .env file: the values are godotenv's (quotes, escapes, ${NAME} of the same file, "export ").
// This function adds the order, each name's line, and faults that name a line and never quote the file. A name that
// godotenv accepts but a shell does not ("a.b") is kept: execve takes it. The error is [Faults].
func ParseDotenv(data []byte) (File, error) {
	names, fault := scanDotenv(strings.ReplaceAll(string(data), "\r\n", "\n"))
	if fault != nil {
		return File{}, Faults{*fault}
	}
	// godotenv's own error quotes the file, so it is not returned; scanDotenv has found the fault already.
	values, err := godotenv.UnmarshalBytes(data)
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
		if f := checkDotenv(names[i]); f != nil {
			faults = append(faults, *f)
		}
	}
	names = merge(names)
	faults = append(faults, oversized(names)...)
	if len(faults) > 0 {
		return File{}, faults
	}
	return File{Vars: names}, nil
}

func checkDotenv(v Var) *Fault {
	switch {
	case v.Name == "":
		return &Fault{Line: v.Line, Problem: `expected NAME=value, found no "="`}
	case strings.IndexByte(v.Name, 0) >= 0 || strings.IndexByte(v.Value(), 0) >= 0:
		return &Fault{Line: v.Line, Name: nameOnly(v.Name), Problem: nulProblem}
	}
	return nil
}

// scanDotenv scans the statements as godotenv does and returns each name with its line, without values.
func scanDotenv(src string) ([]Var, *Fault) {
	var names []Var
	rest := src
	line := func() int { return 1 + strings.Count(src[:len(src)-len(rest)], "\n") }
	for {
		if rest = dotenvStatement(rest); rest == "" {
			return names, nil
		}
		at := line()
		name, n, bad := dotenvName(rest)
		if bad != "" {
			return nil, &Fault{Line: at, Problem: "expected NAME=value, found " + bad + " in the name"}
		}
		names = append(names, Var{Name: name, Line: at})
		rest = strings.TrimLeftFunc(rest[n:], isDotenvBlank)
		if n = dotenvValue(rest); n < 0 {
			return nil, &Fault{Line: at, Name: nameOnly(name), Problem: "the quote that begins the value is not closed"}
		}
		if !utf8.ValidString(name + rest[:n]) { // godotenv would replace invalid bytes
			return nil, &Fault{Line: at, Name: nameOnly(name), Problem: "is not valid UTF-8"}
		}
		rest = rest[n:]
	}
}

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
	if after, ok := strings.CutPrefix(s, "export"); ok && strings.IndexFunc(after, isDotenvBlank) == 0 {
		s = strings.TrimLeftFunc(after, isDotenvBlank)
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
