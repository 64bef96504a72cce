package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Fault is one error in the file, with its place.
type Fault struct {
	File         string
	Line, Column int // 1-based; 0: the file as a whole
	Message      string
}

func (f Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
}

// Faults is every error in a file, in the order of its lines.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

type position struct{ line, column int }

// decoder decodes a YAML document into a struct by its yaml tags. It walks the
// tree itself because the library's strict decoding stops at the first fault.
type decoder struct {
	file   string
	faults Faults
	at     map[string]position // dotted key → the place of its value
}

// fault adds a fault at the value of key, or of the nearest key above it.
func (d *decoder) fault(key, format string, a ...any) {
	k := key
	for k != "" {
		if _, ok := d.at[k]; ok {
			break
		}
		k = k[:max(strings.LastIndexAny(k, ".["), 0)]
	}
	p := d.at[k]
	message := fmt.Sprintf(format, a...)
	if key != "" { // the file as a whole has none
		message = key + ": " + message
	}
	d.faults = append(d.faults, Fault{d.file, p.line, p.column, message})
}

// others reports faults of keys that have none yet.
func (d *decoder) others() func(key, format string, a ...any) {
	known := slices.Clone(d.faults)
	return func(key, format string, a ...any) {
		if !slices.ContainsFunc(known, func(f Fault) bool { return strings.HasPrefix(f.Message, key+": ") }) {
			d.fault(key, format, a...)
		}
	}
}

func (d *decoder) decode(data []byte, into *Config) {
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		d.syntax(err)
		return
	}
	docs := slices.DeleteFunc(f.Docs, func(doc *ast.DocumentNode) bool { return isNull(doc.Body) })
	if len(docs) > 1 {
		d.faults = append(d.faults, Fault{File: d.file, Message: "expected one document, have several (---)"})
		return
	}
	if len(docs) == 1 {
		d.value("", docs[0].Body, reflect.ValueOf(into).Elem())
	}
}

// syntax turns the library's error, "[line:column] message" and an excerpt, into a fault.
func (d *decoder) syntax(err error) {
	first, _, _ := strings.Cut(err.Error(), "\n")
	fault := Fault{File: d.file, Message: first}
	if pos, msg, ok := strings.Cut(strings.TrimPrefix(first, "["), "] "); ok {
		if n, _ := fmt.Sscanf(pos, "%d:%d", &fault.Line, &fault.Column); n == 2 {
			fault.Message = msg
		}
	}
	d.faults = append(d.faults, fault)
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	switch n.Type() {
	case ast.NullType, ast.CommentType, ast.CommentGroupType:
		return true
	}
	return false
}

// value decodes node into v. A null leaves the default.
func (d *decoder) value(key string, node ast.Node, v reflect.Value) {
	for {
		if t, ok := node.(*ast.TagNode); ok {
			node = t.Value
		} else if a, ok := node.(*ast.AnchorNode); ok {
			node = a.Value
		} else {
			break
		}
	}
	if isNull(node) {
		return
	}
	if tok := node.GetToken(); tok != nil && tok.Position != nil {
		d.at[key] = position{tok.Position.Line, tok.Position.Column}
	}
	switch {
	case v.Kind() == reflect.Struct:
		d.mapping(key, node, func(name string, child ast.Node, childKey string) {
			field, ok := fieldByTag(v, name)
			if !ok {
				d.fault(childKey, "unknown key%s", Suggest(name, tags(v)))
				return
			}
			d.value(childKey, child, field)
		})
	case v.Kind() == reflect.Map:
		m := reflect.MakeMap(v.Type())
		d.mapping(key, node, func(name string, child ast.Node, childKey string) {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(childKey, child, e)
			m.SetMapIndex(reflect.ValueOf(name), e)
		})
		v.Set(m)
	case v.Kind() == reflect.Slice:
		seq, ok := node.(*ast.SequenceNode)
		if !ok {
			d.fault(key, "expected a list, have %s", kind(node))
			return
		}
		s := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
		for i, e := range seq.Values {
			d.value(fmt.Sprintf("%s[%d]", key, i), e, s.Index(i))
		}
		v.Set(s)
	default:
		d.scalar(key, node, v)
	}
}

// mapping calls f for each pair of a mapping; a key given twice is a fault.
func (d *decoder) mapping(key string, node ast.Node, f func(name string, child ast.Node, childKey string)) {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.fault(key, "expected keys and values, have %s", kind(node))
		return
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		name := p.Key.GetToken().Value
		child := strings.TrimPrefix(key+"."+shown(name), ".")
		if seen[name] {
			d.at[child] = position{p.Key.GetToken().Position.Line, p.Key.GetToken().Position.Column}
			d.fault(child, "given twice")
			continue
		}
		seen[name] = true
		d.at[child] = position{p.Key.GetToken().Position.Line, p.Key.GetToken().Position.Column}
		f(name, p.Value, child)
	}
}

// shown is name in the form for a fault, which is one line.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

var durationType = reflect.TypeFor[time.Duration]()

func (d *decoder) scalar(key string, node ast.Node, v reflect.Value) {
	s, ok := node.(ast.ScalarNode)
	if !ok {
		d.fault(key, "expected %s, have %s", wants(v), kind(node))
		return
	}
	text := node.GetToken().Value
	if l, ok := node.(*ast.LiteralNode); ok {
		text = l.Value.Value
	}
	switch {
	case v.Type() == durationType:
		t, err := time.ParseDuration(text)
		if err != nil {
			d.fault(key, "expected a duration such as 30s, have %q", text)
			return
		}
		v.SetInt(int64(t))
	case v.Kind() == reflect.String:
		switch s.Type() {
		case ast.BoolType, ast.MappingType:
			d.fault(key, "expected a text, have %q: put it in quotes", text)
		default:
			v.SetString(text)
		}
	case v.Kind() == reflect.Bool:
		if s.Type() != ast.BoolType {
			d.fault(key, "expected true or false, have %q", text)
			return
		}
		v.SetBool(text == "true" || text == "True" || text == "TRUE")
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			d.fault(key, "expected a whole number, have %q", text)
			return
		}
		v.SetInt(int64(n))
	default:
		panic("config: no decoding for " + v.Type().String()) // a field of a new type: a bug, not input
	}
}

func wants(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "a duration"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.Kind() == reflect.Int:
		return "a whole number"
	}
	return "a text"
}

// kind names n's type, never its text: under notify and health.headers that is a secret.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AliasNode:
		return "an alias (not supported here)"
	}
	return "one value"
}

func fieldByTag(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func tags(v reflect.Value) []string {
	var out []string
	for i := range v.NumField() {
		out = append(out, v.Type().Field(i).Tag.Get("yaml"))
	}
	return out
}

// Suggest names the known word that was probably meant.
func Suggest(name string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, name) || distance(strings.ToLower(name), k) <= 2 {
			return fmt.Sprintf(": did you mean %s?", k)
		}
	}
	return ": expected one of " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance; the words are short.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1, diag+btoi(a[i] != b[j]))
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
