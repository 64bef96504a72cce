package scheduler

import (
	"fmt"
	"regexp"
	"strings"
)

// plainValue matches a key of a job and its value, which may begin with a mark of YAML's.
var plainValue = regexp.MustCompile(
	`^[ \t]*(?:-[ \t]+)?["']?(schedule|command|name|url|timezone)["']?[ \t]*:[ \t]+(.+?)[ \t]*$`)

// unquoted says at which byte of a line a value begins to be something else than a text in YAML, and why; why is empty
// where there is none. The hint has no part of a command, which may have a secret.
func unquoted(line string) (at int, why, hint string) {
	m := plainValue.FindStringSubmatchIndex(line)
	if m == nil {
		return 0, "", ""
	}
	key, value, at := line[m[2]:m[3]], line[m[4]:m[5]], m[4]
	hint = "quote all of it, and double each quote inside: " + key + ": '…'"
	if key == "schedule" && !strings.ContainsAny(value, `"'`) {
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
