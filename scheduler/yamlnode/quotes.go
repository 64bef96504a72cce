package yamlnode

import (
	"fmt"
	"regexp"
	"strings"
)

// unquoted says at which byte of a line the value of one of r.Words begins to be something else than a text in YAML,
// and why; why is empty where there is none. The hint has no part of a value but a schedule's: it may be a secret.
func (r *Reader) unquoted(line string) (at int, why, hint string) {
	if r.Words == "" {
		return 0, "", ""
	}
	if r.valued == nil {
		r.valued = regexp.MustCompile(`^[ \t]*(?:-[ \t]+)?["']?(` + r.Words + `)["']?[ \t]*:([ \t]*)(.+?)[ \t]*$`)
	}
	m := r.valued.FindStringSubmatchIndex(line)
	if m == nil {
		return 0, "", ""
	}
	name, gap, value, at := line[m[2]:m[3]], line[m[4]:m[5]], line[m[6]:m[7]], m[6]
	bare, _, _ := strings.Cut(value, " #")
	hint = "quote all of it, and double each quote inside: " + name + ": '…'"
	if name == "schedule" && !strings.ContainsAny(bare, `"'`) {
		hint = fmt.Sprintf("quote it: schedule: %q", strings.TrimSpace(bare))
	}
	switch mark := value[0]; {
	case gap == "":
		return m[6], "a blank is missing after the colon", ""
	case mark == '*':
		return at, "a star that begins a value is a reference in YAML", hint
	case strings.IndexByte("@`%&!|>", mark) >= 0 && len(value) > 2:
		return at, fmt.Sprintf("a value cannot begin with %c in YAML", mark), hint
	case strings.HasPrefix(value, "{{"):
		return at, "a value cannot begin with {{ in YAML", "put it in quotes"
	case mark == '"' || mark == '\'':
		if end := closing(value); end > 0 && !comment.MatchString(value[end+1:]) {
			return at, "the value goes on after the quotes that it begins with", hint
		}
	case strings.Contains(value, ": "):
		return at + strings.Index(value, ": "), `": " inside a value without quotes makes it a mapping in YAML`, hint
	}
	return 0, "", ""
}

// comment matches what may follow a value.
var comment = regexp.MustCompile(`^[ \t]*($|[ \t]#)`)

// closing is the place of the quote that closes the one that s begins with, or -1.
func closing(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[0] == '"' && s[i] == '\\':
			i++
		case s[i] == s[0] && s[0] == '\'' && i+1 < len(s) && s[i+1] == '\'':
			i++
		case s[i] == s[0]:
			return i
		}
	}
	return -1
}
