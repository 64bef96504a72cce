// Package appenv reads the environment of the application's web process, byte for byte.
//
// A cron job, an ad-hoc command and a health probe must have the web process's environment. systemd starts the web
// process with Beanstalk's deployment file, so that file, read in systemd's own grammar, is the first source;
// `get-config environment` replaces it when it cannot be read, and the live web process when neither can (see
// [Resolver.Resolve] for the order and for conflicts). Off Beanstalk the source is the .env file.
//
// Values are secrets: no type here prints one by fmt, slog or encoding/json, no error and no warning has one in it,
// and nothing is put into the agent's own environment.
package appenv

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Var is one variable. Its value is behind a pointer because fmt does not call methods on unexported struct fields, and
// would print a plain string there.
type Var struct {
	Name string
	Line int // where it was assigned, from 1; 0 when its source has no lines

	value *string
}

// NewVar returns a variable that no file assigned.
func NewVar(name, value string) Var { return Var{Name: name, value: &value} }

// Value returns the exact bytes. The caller must keep them secret.
func (v Var) Value() string {
	if v.value == nil {
		return ""
	}
	return *v.value
}

// Assignment returns NAME=value as execve takes it.
func (v Var) Assignment() string { return v.Name + "=" + v.Value() }

const masked = "****"

func (v Var) String() string               { return v.Name + "=" + masked }
func (v Var) Format(s fmt.State, _ rune)   { io.WriteString(s, v.String()) }
func (v Var) LogValue() slog.Value         { return slog.StringValue(v.String()) }
func (v Var) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Environ is NAME=value assignments as execve takes them, each name once. It is assignable to []string; printed, logged
// or marshalled as an Environ it shows names only.
type Environ []string

func (e Environ) String() string {
	names := make([]string, len(e))
	for i, a := range e {
		name, _, _ := strings.Cut(a, "=")
		names[i] = name + "=" + masked
	}
	return "[" + strings.Join(names, " ") + "]"
}

func (e Environ) Format(s fmt.State, _ rune)   { io.WriteString(s, e.String()) }
func (e Environ) LogValue() slog.Value         { return slog.StringValue(e.String()) }
func (e Environ) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// Lookup returns the value of name.
func (e Environ) Lookup(name string) (string, bool) {
	for i := len(e) - 1; i >= 0; i-- {
		if n, v, _ := strings.Cut(e[i], "="); n == name {
			return v, true
		}
	}
	return "", false
}

// merge returns the variables of all lists, each name once: the last value wins, at the place of the first assignment,
// as in systemd.
func merge(lists ...[]Var) []Var {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	out := make([]Var, 0, n)
	at := make(map[string]int, n)
	for _, l := range lists {
		for _, v := range l {
			if i, ok := at[v.Name]; ok {
				out[i] = v
				continue
			}
			at[v.Name] = len(out)
			out = append(out, v)
		}
	}
	return out
}
