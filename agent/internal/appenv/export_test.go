package appenv

import "time"

// SystemdCases lends the hand-made files to the test beside the real systemd.
func SystemdCases() []string {
	var in []string
	for _, c := range systemdCases {
		in = append(in, c.in)
	}
	return in
}

// SetSettle sets how old a change must be before a reading counts.
func (r *Resolver) SetSettle(d time.Duration) { r.settle = d }

// OfOneProcess is the list of variables that differ by nature.
var OfOneProcess = ofOneProcess
