package appenv

import (
	"slices"
	"time"
)

// SystemdCases lends the hand-made files to the test beside the real systemd.
func SystemdCases() []string {
	var in []string
	for _, c := range systemdCases {
		in = append(in, c.in)
	}
	return in
}

// SetMinAge sets how old a change must be before a reading counts.
func (r *Resolver) SetMinAge(d time.Duration) { r.minAge = d }

// Vars returns the variables in order.
func (e *Env) Vars() []Var { return e.vars }

// differs reports whether any variable is not the same.
func differs(d Diff) bool {
	return slices.ContainsFunc(d.Vars, func(v DiffVar) bool { return v.State != Same })
}

// OfOneProcess is the list of variables that differ by nature.
var OfOneProcess = ofOneProcess
