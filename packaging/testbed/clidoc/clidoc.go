// Package clidoc reads packaging/docs/cli.md, and compares with it what a verb prints.
package clidoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Doc is what the document says. Verbs are without "agent", with the flags that change what they print.
type Doc struct {
	Fields  map[string][]Field // that --json prints, by verb
	Exits   map[string]bool    // verbs whose exit statuses are there
	NoField map[string]bool    // columns that are no field: "metrics MAX"
	Renamed [][3]string        // verbs, before, now, as they stand there
}

// Field is a line of a table.
type Field struct {
	Path     string
	Type     string
	Optional bool
	Offset   bool // a time that is not in UTC
	Included bool // from another verb's table
}

var (
	heading = regexp.MustCompile("^### agent (.*) --json$")
	row     = regexp.MustCompile(`^\| (.*?) \| (.*?) \| ?(.*?) ?\|$`)
	code    = regexp.MustCompile("`([^`]*)`")
	// includes is a sentence of a verb that prints another's fields, too.
	includes = regexp.MustCompile("the fields of `agent (.*) --json`")
)

// Read reads the document.
func Read(t testing.TB, path string) Doc {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := Doc{Fields: map[string][]Field{}, Exits: map[string]bool{}, NoField: map[string]bool{}}
	verb, included, renamed := "", map[string]string{}, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			verb, renamed = "", line == "## Renamed"
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			verb = m[1]
			d.Fields[verb] = nil
			continue
		}
		if m := includes.FindStringSubmatch(line); m != nil && verb != "" {
			included[verb] = m[1]
		}
		m := row.FindStringSubmatch(line)
		switch {
		case m == nil && verb == "":
			if cells := strings.Split(line, " | "); len(cells) == 2 { // of the exit statuses
				for _, c := range code.FindAllStringSubmatch(cells[0], -1) {
					d.Exits[c[1]] = true
				}
			}
		case m == nil || strings.HasPrefix(m[1], "---") || !strings.HasPrefix(m[1], "`"):
		case renamed:
			d.Renamed = append(d.Renamed, [3]string{m[1], m[2], m[3]})
		case verb == "":
			d.NoField[strings.TrimPrefix(strings.ReplaceAll(m[1]+" "+m[2], "`", ""), "agent ")] = true
		default:
			kind, optional := strings.CutSuffix(m[2], "?")
			d.Fields[verb] = append(d.Fields[verb], Field{Path: strings.Trim(m[1], "`"), Type: kind, Optional: optional, Offset: strings.Contains(m[3], "not in UTC")})
		}
	}
	for verb, other := range included {
		for _, f := range d.Fields[other] {
			if _, own := d.field(verb, f.Path); !own {
				f.Optional, f.Included = true, true
				d.Fields[verb] = append(d.Fields[verb], f)
			}
		}
	}
	return d
}

func (d Doc) field(verb, path string) (Field, bool) {
	i := slices.IndexFunc(d.Fields[verb], func(f Field) bool { return f.Path == path })
	if i < 0 {
		return Field{}, false
	}
	return d.Fields[verb][i], true
}

// A Check is a comparison of what a verb has printed.
type Check struct {
	Doc  Doc
	Verb string

	Faults []string
	Seen   map[string]bool // paths
}

// JSON compares one value. Without a document for it nothing is right.
func (c *Check) JSON(text []byte) {
	if c.Seen == nil {
		c.Seen = map[string]bool{}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		c.fault("%v: %.200s", err, text)
		return
	}
	c.value("", "", v)
}

func (c *Check) fault(format string, a ...any) {
	c.Faults = append(c.Faults, fmt.Sprintf("agent %s --json: ", c.Verb)+fmt.Sprintf(format, a...))
}

// value compares v, at a path that is one of kind, or the top.
func (c *Check) value(path, kind string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if kind == "map" {
			return
		}
		for key, below := range v {
			c.key(path, key, below)
		}
		for _, f := range c.Doc.Fields[c.Verb] {
			name, ok := strings.CutPrefix(f.Path, path+".")
			if !ok || f.Optional || strings.ContainsAny(name, ".[*") {
				continue
			}
			if _, ok := v[name]; !ok {
				c.fault("%s is missing, and not documented as optional", f.Path)
			}
		}
	case []any:
		for _, below := range v {
			c.value(path+"[]", "", below)
		}
	case nil:
		c.fault("%s is null", path)
	}
}

func (c *Check) key(path, key string, v any) {
	f, ok := c.Doc.field(c.Verb, path+"."+key)
	if !ok {
		f, ok = c.Doc.field(c.Verb, path+".*")
	}
	if !ok {
		c.fault("%s.%s is not documented", path, key)
		return
	}
	c.Seen[f.Path] = true
	if !f.is(v) {
		c.fault("%s is documented as %s, not as %v", f.Path, f.Type, v)
	}
	c.value(f.Path, f.Type, v)
}

func (f Field) is(v any) bool {
	switch f.Type {
	case "string":
		_, ok := v.(string)
		return ok
	case "time":
		s, _ := v.(string)
		_, err := time.Parse(time.RFC3339Nano, s)
		return err == nil && (f.Offset || strings.HasSuffix(s, "Z"))
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "integer":
		n, ok := v.(json.Number)
		return ok && !strings.ContainsAny(n.String(), ".eE")
	case "number":
		_, ok := v.(json.Number)
		return ok
	case "object", "map":
		_, ok := v.(map[string]any)
		return ok
	case "list", "strings", "integers", "numbers":
		list, ok := v.([]any)
		one := Field{Type: strings.TrimSuffix(f.Type, "s")}
		return ok && (f.Type == "list" || !slices.ContainsFunc(list, func(e any) bool { return !one.is(e) }))
	}
	return false
}

// Names are the last parts of every field's path, with what they are.
func (d Doc) Names() map[string][]string {
	names := map[string][]string{}
	for _, fields := range d.Fields {
		for _, f := range fields {
			name := f.Path[strings.LastIndex(f.Path, ".")+1:]
			if !slices.Contains(names[name], f.Type) {
				names[name] = append(names[name], f.Type)
			}
		}
	}
	return names
}
