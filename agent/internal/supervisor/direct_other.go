//go:build !linux

package supervisor

// StopsAtCtrlZ is never asked: there are no terminals of ours.
func (d *direct) StopsAtCtrlZ() bool { return false }
