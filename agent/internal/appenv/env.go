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
	notes    []string
	theirs   []string // sources that the application's user can write
	foreign  bool     // it is for another user than the application's
}

// Source is one place that was asked.
type Source struct {
	Name  string // a path, or "get-config environment", or "process 123"
	Vars  int    // how many variables it has
	State string // "used", or a short phrase why it was not
}

// Lookup returns the exact value of name.
func (e *Env) Lookup(name string) (string, bool) {
	i, ok := e.index[name]
	if !ok {
		return "", false
	}
	return e.vars[i].Value(), true
}

// Source returns the source of name, "" when there is none.
func (e *Env) Source(name string) string {
	if i, ok := e.index[name]; ok {
		return e.source[i]
	}
	return ""
}

// Sources returns every source that was asked, in order.
func (e *Env) Sources() []Source { return append([]Source(nil), e.sources...) }

// Warnings returns what an operator should know: dropped assignments, sources used in place of another, names on which
// two sources disagree. No warning has a value in it.
func (e *Env) Warnings() []string { return append([]string(nil), e.warnings...) }

// Notes returns which assignments other well-known readers of the same file read otherwise. No note has a value in it.
func (e *Env) Notes() []string { return append([]string(nil), e.notes...) }

// add adds a source's variables. They replace those of the sources before it.
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
		e.warnf("%v", f)
	}
	for _, f := range file.Notes[:min(len(file.Notes), max(0, maxWarnings-len(e.notes)))] {
		e.notes = append(e.notes, f.Error())
	}
	e.sources = append(e.sources, Source{Name: source, Vars: len(file.Vars), State: "used"})
}

// setTheirs says whether the application's user can write a source.
func (e *Env) setTheirs(source string, theirs bool) {
	if theirs {
		e.theirs = append(e.theirs, source)
	}
}

// filter is e with the variables that keep wants, which may change one. theirs: the application's user can write it.
func (e *Env) filter(keep func(v *Var, theirs bool) bool) *Env {
	kept := &Env{sources: e.sources, warnings: e.warnings, notes: e.notes, theirs: e.theirs, index: map[string]int{}}
	for i, v := range e.vars {
		if keep(&v, slices.Contains(e.theirs, e.source[i])) {
			kept.index[v.Name] = len(kept.vars)
			kept.vars, kept.source = append(kept.vars, v), append(kept.source, e.source[i])
		}
	}
	return kept
}

// skip records a source that is not used.
func (e *Env) skip(source, state string) {
	e.sources = append(e.sources, Source{Name: source, State: state})
}

// maxWarnings is how many are kept: a file can have one for each line.
const maxWarnings = 100

func (e *Env) warnf(format string, args ...any) {
	switch n := len(e.warnings); {
	case n < maxWarnings:
		e.warnings = append(e.warnings, fmt.Sprintf(format, args...))
	case n == maxWarnings:
		e.warnings = append(e.warnings, "further warnings about the environment are not shown")
	}
}
