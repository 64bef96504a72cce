package appenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Fault is an error in one assignment of a file. It never has a value in it, and a name only when it is a variable's
// name: the text before a "=" may be the last line of a private key.
type Fault struct {
	File    string
	Line    int    // from 1
	Column  int    // in characters, from 1; 0 when not known
	Name    string // "" when it is no variable name
	Problem string // what was found, and what was expected or follows
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
	if f.Column > 0 {
		fmt.Fprintf(&b, ":%d", f.Column)
	}
	b.WriteString(": ")
	if f.Name != "" {
		b.WriteString(f.Name + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults are all faults of a file, in order. Of many the error has the first.
type Faults []Fault

const maxFaults = 50

func (fs Faults) Error() string {
	var lines []string
	for _, f := range fs[:min(len(fs), maxFaults)] {
		lines = append(lines, f.Error())
	}
	if more := len(fs) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
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

// nulProblem is the Problem of a value or name with a NUL byte.
const nulProblem = "has a NUL byte; no process can be started with it"

// maxString is the kernel's limit for one NAME=value with its final NUL (MAX_ARG_STRLEN, 32 pages): beyond it execve
// fails, so the web process would not have started either.
const maxString = 128 << 10

// maxEnviron is the most that all of a process's variables are. Source: execve(2), which allows 2 MiB with the usual
// stack of 8 MiB.
const maxEnviron = 2 << 20

// oversized applies checkSize to merged variables: a replaced assignment is never passed on.
func oversized(vars []Var) Faults {
	var faults Faults
	for _, v := range vars {
		if f := checkSize(v); f != nil {
			faults = append(faults, *f)
		}
	}
	return faults
}

// checkSize reports a variable that execve would refuse.
func checkSize(v Var) *Fault {
	if n := len(v.Name) + len(v.Value()) + 2; n > maxString {
		return &Fault{Line: v.Line, Name: nameOnly(v.Name), Problem: fmt.Sprintf("name and value are %d bytes, "+
			"the kernel takes at most %d; no process can be started with it", n-2, maxString-2)}
	}
	return nil
}

// nameOnly returns s if it is a variable's name, else "".
func nameOnly(s string) string {
	if len(s) > 128 || !isVariableName(s) {
		return ""
	}
	return s
}

// isVariableName reports whether s is [A-Za-z_][A-Za-z0-9_]*, as systemd requires.
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

// errEmpty: a deployment file without any assignment is more likely being written than complete.
var errEmpty = errors.New("is empty")

// readError adds the path to err once.
func readError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("read %q: %w", path, err)
}

// reason returns err as a short phrase.
func reason(err error) string {
	switch {
	case errors.Is(err, errEmpty):
		return errEmpty.Error()
	case errors.Is(err, fs.ErrPermission):
		return "not readable by this user"
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.Is(err, context.DeadlineExceeded):
		return "gave no answer in time"
	}
	return err.Error()
}
