package config

import (
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"beanstalk-agent/scheduler/yamlnode"
)

// Faults is every error in a file, in the order of its lines.
type Faults = yamlnode.Faults

// decoder decodes a YAML document into a struct by its yaml tags.
type decoder struct {
	yamlnode.Source
	*yamlnode.Reader
	at     map[string]ast.Node // dotted key → its value, or the key's own node where it has none
	faulty map[string]bool     // dotted keys
}

func newDecoder(file string) *decoder {
	d := &decoder{Source: yamlnode.Source{File: file}, at: map[string]ast.Node{}, faulty: map[string]bool{}}
	d.Reader = &yamlnode.Reader{Report: d.Source.Fault, Merges: 20,
		Words: strings.Join(texts(reflect.TypeFor[Config]()), "|")}
	return d
}

func (d *decoder) decode(data []byte, into *Config) {
	text, ok := d.Read(data)
	if !ok {
		return
	}
	d.Reader.Lines = d.Source.Lines
	if n := d.Tree(text); n != nil {
		d.value(yamlnode.Pair{Value: n}, reflect.ValueOf(into).Elem())
	}
}

// fault adds a fault at the value of key, or of the nearest key above it.
func (d *decoder) fault(key, format string, a ...any) {
	k := key
	for d.at[k] == nil && k != "" {
		k = above(k)
	}
	d.faulty[key] = true
	d.FaultAt(d.at[k], "", "%s: %s", key, fmt.Sprintf(format, a...))
}

// others reports faults of keys that have none yet, and none above them.
func (d *decoder) others() func(key, format string, a ...any) {
	known := maps.Clone(d.faulty)
	return func(key, format string, a ...any) {
		k := key
		for !known[k] && k != "" {
			k = above(k)
		}
		if !known[k] {
			d.fault(key, format, a...)
		}
	}
}

// above is the key that holds a dotted key; "" is the file.
func above(key string) string { return key[:max(strings.LastIndexAny(key, ".["), 0)] }

var durationType = reflect.TypeFor[time.Duration]()

// value decodes a value into v. A null leaves the default.
func (d *decoder) value(e yamlnode.Pair, v reflect.Value) {
	node := d.Resolve(e.Value)
	if node == nil {
		d.faulty[e.Key] = true
	}
	if yamlnode.IsNull(node) {
		return
	}
	d.at[e.Key] = e.Value
	before := len(d.Faults)
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(e, func(name string, child yamlnode.Pair) {
			if field, ok := fieldByTag(v, name); ok {
				d.value(child, field)
			} else {
				child.Key = name
				d.Unknown(child, tags(v))
			}
		})
		return
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		d.mapping(e, func(name string, child yamlnode.Pair) {
			one := reflect.New(v.Type().Elem()).Elem()
			d.value(child, one)
			m.SetMapIndex(reflect.ValueOf(name), one)
		})
		v.Set(m)
	case reflect.Slice:
		list, ok := d.List(e)
		s := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, n := range list {
			d.value(yamlnode.Pair{Key: fmt.Sprintf("%s[%d]", e.Key, i), Value: n}, s.Index(i))
		}
		if v.Set(s); ok && v.Type().Elem().Kind() == reflect.Struct {
			return // a fault of one leaves the others to be checked
		}
	default:
		d.scalar(e, v)
	}
	if len(d.Faults) > before {
		d.faulty[e.Key] = true
	}
}

// mapping calls f for each pair of a mapping, with its dotted key.
func (d *decoder) mapping(e yamlnode.Pair, f func(name string, child yamlnode.Pair)) {
	if _, ok := d.Resolve(e.Value).(ast.MapNode); !ok {
		d.faulty[e.Key] = true
	}
	for _, child := range d.Entries(e) {
		name := child.Key
		child.Key = strings.TrimPrefix(e.Key+"."+shown(name), ".")
		d.at[child.Key] = child.KeyNode
		f(name, child)
	}
}

// shown is name in the form for a fault, which is one line.
func shown(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

func (d *decoder) scalar(e yamlnode.Pair, v reflect.Value) {
	_, truth := d.Resolve(e.Value).(*ast.BoolNode)
	switch {
	case v.Type() == durationType:
		if t, ok := d.Duration(e); ok {
			v.SetInt(int64(t))
		}
	case v.Kind() == reflect.Bool:
		if b, ok := d.Boolean(e); ok {
			v.SetBool(b)
		}
	case v.Kind() == reflect.String && truth: // a number is as it is written
		d.Text(e)
	case v.Kind() == reflect.String:
		if text, ok := d.Scalar(e); ok {
			v.SetString(text)
		}
	case v.Kind() == reflect.Int:
		text, ok := d.Scalar(e)
		n, err := strconv.Atoi(text)
		if ok && err != nil {
			d.fault(e.Key, "expected a whole number, have %q", text)
		}
		v.SetInt(int64(n))
	default:
		panic("config: no decoding for " + v.Type().String()) // a field of a new type: a bug, not input
	}
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

// texts are the keys, of whatever section, that have one text.
func texts(t reflect.Type) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type.Kind() == reflect.Slice {
			f.Type = f.Type.Elem()
		}
		switch f.Type.Kind() {
		case reflect.Struct:
			keys = append(keys, texts(f.Type)...)
		case reflect.String:
			keys = append(keys, f.Tag.Get("yaml"))
		}
	}
	return keys
}
