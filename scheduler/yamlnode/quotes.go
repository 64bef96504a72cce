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
		r.valued = regexp.MustCompile(`^[ \t]*(?:-[ \t]+)?["']?(` + r.Words + `)["']?[ \t]*:[ \t]+(.+?)[ \t]*$`)
	}
	m := r.valued.FindStringSubmatchIndex(line)
	if m == nil {
		return 0, "", ""
	}
	name, value, at := line[m[2]:m[3]], line[m[4]:m[5]], m[4]
	hint = "quote all of it, and double each quote inside: " + name + ": '…'"
	if name == "schedule" && !strings.ContainsAny(value, `"'`) {
		hint = fmt.Sprintf("quote it: schedule: %q", value)
	}
	switch mark := value[0]; {
	case mark == '*':
		return at, "a star that begins a value is a reference in YAML", hint
	case strings.IndexByte("@`%&!|>", mark) >= 0 && len(value) > 2:
		return at, fmt.Sprintf("a value cannot begin with %c in YAML", mark), hint
	case mark == '"' || mark == '\'':
		if end := strings.LastIndexByte(value, mark); end > 0 && end < len(value)-1 && value[end+1] != '#' {
			return at, "the value goes on after the quotes that it begins with", hint
		}
	case strings.Contains(value, ": "):
		return at + strings.Index(value, ": "), `": " inside a value without quotes makes it a mapping in YAML`, hint
	}
	return 0, "", ""
}
