package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// exitError carries the exit status of a verb. A nil err says nothing more.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func misuse(err error) error  { return &exitError{2, err} }
func exitWith(code int) error { return exitIf(code, nil) }
func exitIf(code int, err error) error {
	if code == 0 && err == nil {
		return nil
	}
	return &exitError{code, err}
}

// exitCode is 0 for success, 1 when the answer is no or something failed, 2 for misuse. An exitError has its own: the
// command's, or 125 when it was the agent that failed (as coreutils' timeout and env do).
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if err != nil {
		return 1
	}
	return 0
}

// hinter is an error that says what to do about it.
type hinter interface {
	error
	Hints() []string
}

func report(w io.Writer, err error) {
	if e, ok := errors.AsType[*exitError](err); ok && e.err == nil {
		return
	}
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) { // one fault a line
		printf(w, "error: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if h, ok := errors.AsType[hinter](err); ok {
		for _, hint := range h.Hints() {
			printf(w, "hint: %s\n", hint)
		}
	}
}
