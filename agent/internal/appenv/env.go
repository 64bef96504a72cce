package appenv

import (
	"fmt"
	"slices"
)

// Env is the application's environment at one moment. It is immutable, and safe for concurrent use.
type Env struct {
	vars     []Var
	source   []string // of the var with the same index
	index    map[string]int
	sources  []Source
	warnings []string
}

// Source is one place that was asked, for `status` and `doctor`.
type Source struct {
	Name  string // a path, or "get-config environment", or "process 123"
	Vars  int    // how many variables it gave
	State string // "used", or why it was not: one short phrase
}

// Environ returns the variables in order, for execve. The caller owns the slice.
func (e *Env) Environ() Environ {
	out := make(Environ, len(e.vars))
	for i, v := range e.vars {
		out[i] = v.Assignment()
	}
	return out
}

// Lookup returns the exact value of name.
func (e *Env) Lookup(name string) (string, bool) {
	i, ok := e.index[name]
	if !ok {
		return "", false
	}
	return e.vars[i].Value(), true
}

// Vars returns the variables in order. The caller owns the slice.
func (e *Env) Vars() []Var { return append([]Var(nil), e.vars...) }

// Names returns the names in order.
func (e *Env) Names() []string {
	out := make([]string, len(e.vars))
	for i, v := range e.vars {
		out[i] = v.Name
	}
	return out
}

// Source returns which source gave name, "" when none did.
func (e *Env) Source(name string) string {
	if i, ok := e.index[name]; ok {
		return e.source[i]
	}
	return ""
}

// Sources returns every source that was asked, in order.
func (e *Env) Sources() []Source { return append([]Source(nil), e.sources...) }

// Warnings returns what an operator should know: assignments that were dropped, sources that stand in for another,
// names on which two sources disagree. No warning carries a value.
func (e *Env) Warnings() []string { return append([]string(nil), e.warnings...) }

// add lays a source's variables over those of the sources before it.
func (e *Env) add(source string, file File) {
	if e.index == nil {
		e.index = make(map[string]int, len(file.Vars))
	}
	for _, v := range file.Vars {
		i, known := e.index[v.Name]
		if !known {
			e.index[v.Name] = len(e.vars)
			e.vars = append(e.vars, v)
			e.source = append(e.source, source)
			continue
		}
		if e.vars[i].Value() != v.Value() {
			e.warnf("%s: %s overrides %s", v.Name, source, e.source[i])
		}
		e.vars[i], e.source[i] = v, source
	}
	for _, f := range file.Dropped {
		e.warnings = append(e.warnings, f.Error())
	}
	e.sources = append(e.sources, Source{Name: source, Vars: len(file.Vars), State: "used"})
}

// skip notes a source that gave nothing.
func (e *Env) skip(source, state string) {
	e.sources = append(e.sources, Source{Name: source, State: state})
}

func (e *Env) warnf(format string, args ...any) {
	e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
}

// remove takes variables out: by name, or by NAME=value where only that value goes.
func (e *Env) remove(unset []string) {
	if len(unset) == 0 {
		return
	}
	kept := Env{sources: e.sources, warnings: e.warnings, index: map[string]int{}}
	for i, v := range e.vars {
		if slices.Contains(unset, v.Name) || slices.Contains(unset, v.Assignment()) {
			continue
		}
		kept.index[v.Name] = len(kept.vars)
		kept.vars = append(kept.vars, v)
		kept.source = append(kept.source, e.source[i])
	}
	*e = kept
}
