//go:build !linux

package command

// Subreaper does nothing where the system has no such thing.
func Subreaper() error { return nil }
