package packaging

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// adviseIgnored notes which of our files eb deploy would leave out: where .ebignore exists it says what is sent, and a
// deployment without the agent succeeds.
func (h *host) adviseIgnored(bundled bool) {
	text, err := smallFile(h.repo, ".ebignore")
	if err != nil {
		return
	}
	ours := append(slices.Sorted(maps.Keys(hooks)), configName, nginxFile)
	if bundled {
		ours = append(ours, ".agent/SHA256SUMS", ".agent/agent-linux-amd64", ".agent/agent-linux-arm64")
	}
	var left, lines []string
	for _, name := range slices.Sorted(slices.Values(ours)) {
		if !ignored(text, name) {
			continue
		}
		folder, _, _ := strings.Cut(name, "/")
		left = append(left, name)
		if line := "!" + folder + "/"; !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(left) > 0 {
		h.note(".ebignore leaves out %s: the deployment would succeed, without them. Add at its end, a line each: %s",
			strings.Join(left, ", "), strings.Join(lines, " "))
	}
}

// ignored reports whether the EB CLI leaves out a file: the last pattern that matches decides, as in a .gitignore, but
// a file can come back below a folder that is left out. Source: awsebcli, get_ebignore_list, and pathspec's
// gitwildmatch, which it uses.
func ignored(ebignore, name string) (out bool) {
	for line := range strings.Lines(ebignore) {
		line = strings.TrimSpace(line)
		pattern, back := strings.CutPrefix(line, "!")
		if line == "" || line[0] == '#' || pattern == "/" {
			continue
		}
		if re, err := regexp.Compile(ignorePattern(pattern)); err == nil && re.MatchString(name) {
			out = !back
		}
	}
	return out
}

// ignorePattern is the regular expression of a pattern: with a slash inside it begins at the repository's folder, with
// one at its end it means a folder, and a folder means all that is in it.
func ignorePattern(pattern string) string {
	pattern, folder := strings.CutSuffix(pattern, "/")
	var out strings.Builder
	out.WriteString("^")
	if !strings.Contains(pattern, "/") {
		out.WriteString("(?:.+/)?")
	}
	segments := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch {
		case s == "**" && last:
			out.WriteString(".+")
		case s == "**":
			out.WriteString("(?:.+/)?")
		default:
			out.WriteString(ignoreSegment(s))
		}
		if !last && s != "**" {
			out.WriteString("/")
		}
	}
	if folder {
		return out.String() + "/.*$"
	}
	return out.String() + "(?:/.*)?$"
}

var wild = regexp.MustCompile(`\\.|\*+|\?|\[[!^]?\]?[^\]]*\]|[^\\*?[]+|.`)

func ignoreSegment(s string) string {
	if s == "*" {
		return "[^/]+"
	}
	return wild.ReplaceAllStringFunc(s, func(w string) string {
		switch {
		case w[0] == '*':
			return "[^/]*"
		case w == "?":
			return "[^/]"
		case w[0] == '[' && len(w) > 2:
			if w[1] == '!' {
				w = "[^" + w[2:]
			}
			return strings.ReplaceAll(w, `\`, `\\`)
		case w[0] == '\\' && len(w) > 1:
			return regexp.QuoteMeta(w[1:])
		}
		return regexp.QuoteMeta(w)
	})
}
