package appenv

import (
	"fmt"
	"strings"
)

// Fault is something wrong with one assignment of a file. It never carries a value, and a name only when it is a
// variable's name: the text before a "=" may well be the last line of a private key.
type Fault struct {
	File    string
	Line    int    // from 1
	Name    string // "" when what stands there is no variable name
	Problem string // what was found, what was expected or happens
}

func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.File == "" {
		b.WriteString("environment")
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.Name != "" {
		b.WriteString(f.Name + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults is every fault of a file, in its order.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// In returns the faults with their file's name.
func (fs Faults) In(file string) Faults {
	for i := range fs {
		fs[i].File = file
	}
	return fs
}

// maxString is the kernel's limit for one NAME=value with its final NUL (MAX_ARG_STRLEN, 32 pages): execve refuses
// the whole program beyond it, so the web process would not have started either.
const maxString = 128 << 10

// oversized is checkSize of all; after merge, since what a later assignment replaces is never passed on.
func oversized(vars []Var) Faults {
	var faults Faults
	for _, v := range vars {
		if f := checkSize(v); f != nil {
			faults = append(faults, *f)
		}
	}
	return faults
}

// checkSize faults what execve would refuse.
func checkSize(v Var) *Fault {
	if n := len(v.Name) + len(v.Value()) + 2; n > maxString {
		return &Fault{Line: v.Line, Name: nameOnly(v.Name), Problem: fmt.Sprintf("name and value are %d bytes, the kernel takes at most %d; no process can be started with it", n-2, maxString-2)}
	}
	return nil
}

// nameOnly returns s if it can only be a variable's name, else nothing.
func nameOnly(s string) string {
	if len(s) > 128 || !isVariableName(s) {
		return ""
	}
	return s
}

// isVariableName reports whether s is [A-Za-z_][A-Za-z0-9_]*, what systemd passes on.
func isVariableName(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '_', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}
