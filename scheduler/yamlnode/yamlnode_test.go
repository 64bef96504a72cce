package yamlnode

import (
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// read gives what Reader made of a text, and its faults one a line.
func read(text string) (any, string) {
	s := &Source{File: "f"}
	text, ok := s.Read([]byte(text))
	r := &Reader{Lines: s.Lines, Report: s.Fault, Merges: 20, Words: "match|user"}
	var v any
	if ok {
		v = value(r, Pair{Key: "top", Value: r.Tree(text)}, 10)
	}
	if err := s.Err(); err != nil {
		return v, err.Error()
	}
	return v, ""
}

// value goes so deep, since a list can have a reference to itself in it.
func value(r *Reader, e Pair, deep int) any {
	if deep == 0 {
		return nil
	}
	switch r.Resolve(e.Value).(type) {
	case nil:
		return nil
	case ast.MapNode:
		m := map[string]any{}
		for _, e := range r.Entries(e) {
			m[e.Key] = value(r, e, deep-1)
		}
		return m
	case *ast.SequenceNode:
		list, _ := r.List(e)
		out := []any{}
		for _, n := range list {
			out = append(out, value(r, Pair{Key: e.Key, Value: n}, deep-1))
		}
		return out
	}
	s, _ := r.Scalar(e)
	return s
}

func TestFaultsHaveTheirPlaceAndSayWhatToDo(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\nb: 2\na: 3\n":           `f:3:1: key "a" stands here twice; first in line 1`,
		"a: *b\n":                      "f:1:4: a reference to an anchor that is not there; quote a value that begins with a star",
		"a: &a [*a]\n":                 "",
		"a: 1\n---\nb: 2\n":            "f:3:1: a second YAML document begins here; one is expected",
		"a:\n\tb: 1\n":                 "f:2:1: a tab cannot indent YAML; use blanks",
		"match: \"celery\" worker\n":   "f:1:8: the value goes on after the quotes that it begins with; quote all of it",
		"- user: @planted\n":           "f:1:9: a value cannot begin with @ in YAML; quote all of it, and double each quote inside: user: '…'",
		"match: a: b\n":                `f:1:9: ": " inside a value without quotes makes it a mapping in YAML`,
		"match: * worker\n":            "f:1:8: a reference to an anchor that is not there; quote a value that begins with a star",
		"match: * * * *\n":             "f:1:8: a star that begins a value is a reference in YAML",
		"? a\n: 1\n? a\n: 2\n":         `f:3:3: key "a" stands here twice; first in line 1`,
		"a: \"\\e[2J\"\n":              "f:1:4: a has a control character",
		"a: caf\xe9\n":                 "f:1:7: a character that is not text; save the file as UTF-8 text",
		"a: [\n":                       "f:1:4: not valid YAML: ",
		strings.Repeat("[", 60):        "f:1:1: brackets nest too deep",
		"\ufeffa: 1\r\nb: 2\r\n":       "",
		"# nothing\n---\n---\n":        "",
		"x: &x {a: 1}\ny: {<<: *x}\n":  "",
		"x: &x {a: 1}\n<<: [*x, {}]\n": "",
	} {
		if _, got := read(text); (want == "") != (got == "") || !strings.HasPrefix(got, want) || strings.Contains(got, "planted") {
			t.Errorf("%q:\n%s\nwant\n%s", text, got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"schedule", "name", "on", "timezone", "environments", "notify_cooldown", "overlap", "timeout"}
	for word, want := range map[string]string{
		"schedul": "schedule", "Schedule": "schedule", "shcedule": "schedule", "time-zone": "timezone", "environment": "environments",
		"enviroment": "environments", "notifycooldown": "notify_cooldown", "notify_cool_dwn": "notify_cooldown", "nmae": "name",
		"time": "", "description": "", "home": "", "": "", "schedules_of_others": "",
	} {
		got := Suggest(word, known)
		if want != "" {
			want = "did you mean " + want + "?"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// word is a key that the library's decoder leaves as it is: true, null and 0x1 it does not.
var word = regexp.MustCompile(`^x[a-z]*$`)

// FuzzReader: whatever the text, no panic; each fault has a place in it; and what is read without a fault has the keys
// that the library's own decoder finds.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"", "a: b", "a: [1, {b: c}]\n", "x: &a 1\ny: *a", "<<: {a: 1}", "- 1", "? a\n: b", "a: |\n  b\n", "a: !!str 1",
		"x: &x {a: &y [1]}\ny: {<<: [*x, *x], b: *y}", "a: 1\n---\nb: 2", "match: * x", "a: &a *a", "\"a\\nb\": 1", "a:\n\tb", "[[[[", "? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? ? a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, faults := read(text)
		if faults != "" {
			lines := 1 + strings.Count(text, "\n")
			if n := strings.Count(faults, "\n") + 1; n > MaxFaults+1 {
				t.Fatalf("%d faults in %d lines", n, lines)
			}
			for fault := range strings.SplitSeq(faults, "\n") {
				if !strings.HasPrefix(fault, "f:") {
					t.Fatalf("a fault of two lines: %q", faults)
				}
			}
			return
		}
		var own map[string]any
		if m, ok := got.(map[string]any); !ok || yaml.Unmarshal([]byte(text), &own) != nil || len(own) != len(m) {
			return // another type at the top, or one that the library takes no map for
		}
		for key := range own {
			if _, ok := got.(map[string]any)[key]; !ok && word.MatchString(key) {
				t.Fatalf("key %q is not read: %v", key, got)
			}
		}
	})
}
