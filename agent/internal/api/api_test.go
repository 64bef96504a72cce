package api

import (
	"errors"
	"testing"
)

// Several faults of a file are a line each; a line of the status stays one.
func TestALineIsOne(t *testing.T) {
	err := errors.Join(errors.New("env:1: a"), errors.New("env:2: b"))
	if l := NewLine("environment", Bad, "", "%v", err); l.Text != "env:1: a; env:2: b" {
		t.Errorf("%q", l.Text)
	}
}
