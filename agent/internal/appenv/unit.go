package appenv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unit is the part of a service's unit file that its environment, and so a run's, depends on.
type unit struct {
	name   string
	found  bool      // has a file
	files  []envFile // EnvironmentFile=, in order
	env    []Var     // Environment=
	unset  []string  // UnsetEnvironment=: names, or whole assignments
	user   string
	group  string
	groups []string // SupplementaryGroups=
	umask  int
	notes  []string // about settings that are not followed
}

// envFile is one EnvironmentFile=. An optional one ("-" before the path) may be absent, and is skipped when systemd
// would refuse its content.
type envFile struct {
	path     string
	optional bool
}

// unitDirs are systemd's directories of system units. The first that has the unit wins; drop-ins come from all of them.
var unitDirs = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system"}

// settings yields the settings of one section of several files, in order.
func (u *unit) settings(section string, paths []string, seen map[string]stamp) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		for _, path := range paths {
			note(seen, path)
			data, _, err := readOnce(func() (*os.File, error) { return openFile(path) }, maxFile)
			if err == nil && bytes.IndexByte(data, 0) >= 0 {
				err = errors.New("has a NUL byte")
			}
			if err != nil {
				u.notes = append(u.notes, fmt.Sprintf("%s: %v", path, reason(readError(path, err))))
				continue
			}
			for key, value := range sectionSettings(data, section) {
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// dropIns lists the drop-ins of directories by name; one in an earlier directory replaces those in later ones.
func dropIns(dirs []string, seen map[string]stamp) []string {
	byName := map[string]string{}
	for _, d := range dirs {
		if !note(seen, d) {
			continue
		}
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			name := e.Name()
			if _, ok := byName[name]; !ok && strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") {
				byName[name] = filepath.Join(d, name)
			}
		}
	}
	paths := make([]string, 0, len(byName))
	for _, n := range slices.Sorted(maps.Keys(byName)) {
		paths = append(paths, byName[n])
	}
	return paths
}

// note records a path's state and reports whether it exists.
func note(seen map[string]stamp, path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		seen[path] = stamp{}
		return false
	}
	seen[path] = stampOf(info)
	return true
}

// sectionSettings yields the settings of one section of a file in order. A backslash at the end of a line continues it
// in the next line that is no comment (systemd.syntax(7)).
func sectionSettings(data []byte, wanted string) iter.Seq2[string, string] {
	return func(yield func(key, value string) bool) {
		section, pending := "", ""
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		for line := range bytes.Lines(append(slices.Clip(data), "\n\n"...)) { // the last line may be continued, too
			text := strings.TrimRight(string(line), "\r\n")
			trimmed := strings.TrimLeft(text, blanks)
			if trimmed == "" && pending == "" || trimmed != "" && (trimmed[0] == '#' || trimmed[0] == ';') {
				continue
			}
			if pending == "" {
				text = trimmed
			}
			text, more := continued(pending + text)
			if pending = text; more {
				continue
			}
			pending = ""
			text = strings.TrimSpace(text)
			if strings.HasPrefix(text, "[") {
				section = text
			}
			key, value, ok := strings.Cut(text, "=")
			if ok && section == wanted && !yield(strings.TrimSpace(key), strings.TrimSpace(value)) {
				return
			}
		}
	}
}

// continued reports whether the next line continues this one, and returns it with a blank for the backslash.
func continued(line string) (string, bool) {
	slashes := len(line) - len(strings.TrimRight(line, `\`))
	if slashes%2 == 0 {
		return line, false
	}
	return line[:len(line)-1] + " ", true
}

// set applies one setting. An empty one resets a list.
func (u *unit) set(key, value string) {
	switch key {
	case "User", "Group":
		u.setIdentity(key, value)
	case "SupplementaryGroups":
		u.groups = appendOrReset(u.groups, value, strings.Fields(value))
	case "UMask":
		if n, err := strconv.ParseUint(value, 8, 9); err == nil {
			u.umask = int(n)
		}
	case "EnvironmentFile":
		u.addFile(value)
	case "Environment":
		u.addEnvironment(value)
	case "UnsetEnvironment":
		words, _ := unitWords(value) // systemd keeps those before a broken one
		u.unset = appendOrReset(u.unset, value, words)
	case "PassEnvironment", "PAMName", "ExecSearchPath":
		if value != "" {
			u.notes = append(u.notes, fmt.Sprintf("%s: %s= is not followed", u.name, key))
		}
	}
}

// unsets reports whether systemd takes a variable away: by its name, or with this value.
func (u *unit) unsets(v Var) bool {
	return slices.Contains(u.unset, v.Name) || slices.Contains(u.unset, v.Assignment())
}

func appendOrReset(list []string, value string, words []string) []string {
	if value == "" {
		return nil
	}
	return append(list, words...)
}

func (u *unit) setIdentity(key, value string) {
	text, ok := specifiers(value)
	switch {
	case !ok:
		u.notes = append(u.notes, fmt.Sprintf("%s: %s= has a specifier, which is not followed", u.name, key))
	case key == "User":
		u.user = text
	default:
		u.group = text
	}
}

func (u *unit) addFile(value string) {
	if value == "" {
		u.files = nil
		return
	}
	path, optional := strings.CutPrefix(value, "-")
	path, ok := specifiers(path)
	if !ok || !filepath.IsAbs(path) {
		u.notes = append(u.notes,
			u.name+": one EnvironmentFile= is not followed: no absolute path, or a specifier in it")
		return
	}
	u.files = append(u.files, envFile{filepath.Clean(path), optional})
}

func (u *unit) addEnvironment(value string) {
	if value == "" {
		u.env = nil
		return
	}
	words, err := unitWords(value)
	if err != nil {
		// systemd keeps the words before the broken one.
		u.notes = append(u.notes,
			u.name+": one Environment= has a broken quote or escape; systemd ignores it from there on")
	}
	for _, w := range words {
		w, ok := specifiers(w)
		name, val, assigned := strings.Cut(w, "=")
		switch {
		case !ok:
			u.notes = append(u.notes, u.name+": one Environment= has a specifier, which is not followed")
		case assigned && isVariableName(name) && validUTF8(val):
			u.env = append(u.env, NewVar(name, val))
		}
	}
	u.env = merge(u.env)
}

// specifiers replaces "%%" and reports whether there is no other specifier: a "%" before a letter or a digit.
func specifiers(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+1 < len(s) {
			switch c := s[i+1]; {
			case c == '%':
				i++
			case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
				return s, false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

// unitWords splits s as systemd splits Environment=: at blanks, with quotes of both kinds anywhere in a word and C
// escapes inside and outside of them. With an error it returns the words before it.
func unitWords(s string) ([]string, error) {
	var words []string
	for {
		s = strings.TrimLeft(s, blanks)
		if s == "" {
			return words, nil
		}
		word, rest, err := unitWord(s)
		if err != nil {
			return words, err
		}
		words, s = append(words, word), rest
	}
}

func unitWord(s string) (word, rest string, err error) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			text, n := unescape(s[i+1:])
			if n == 0 {
				return "", "", errUnitSyntax
			}
			b.WriteString(text)
			i += n
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote && quote != 0:
			quote = 0
		case quote == 0 && strings.IndexByte(blanks, c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", "", errUnitSyntax
	}
	return b.String(), "", nil
}

var errUnitSyntax = errors.New("a quote is not closed, or an escape not known")

// unescape decodes the escape after a backslash and returns its length; 0 when it is none.
func unescape(s string) (string, int) {
	if s == "" {
		return "", 0
	}
	if i := strings.IndexByte(`abfnrtv\"'s`, s[0]); i >= 0 {
		return "\a\b\f\n\r\t\v\\\"' "[i : i+1], 1
	}
	number := func(skip, digits, base int) (string, int) {
		if len(s) < skip+digits {
			return "", 0
		}
		n, err := strconv.ParseUint(s[skip:skip+digits], base, 32)
		if err != nil || n == 0 || base == 8 && n > 255 {
			return "", 0
		}
		if s[0] == 'u' || s[0] == 'U' {
			return string(rune(n)), skip + digits
		}
		return string([]byte{byte(n)}), skip + digits
	}
	switch c := s[0]; {
	case c == 'x':
		return number(1, 2, 16)
	case c == 'u':
		return number(1, 4, 16)
	case c == 'U':
		return number(1, 8, 16)
	case '0' <= c && c <= '7':
		return number(0, 3, 8)
	}
	return "", 0
}
