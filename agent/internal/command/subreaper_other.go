//go:build !linux

package command

// Subreaper does nothing where the system has no such thing.
func Subreaper() error { return nil }

// StartTime is not known here, so nothing is ever taken for what a lost run left.
func StartTime(int) uint64 { return 0 }
