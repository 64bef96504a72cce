//go:build !linux

package supervisor

func (d *direct) stops() bool { return false } // there are no terminals of ours
