//go:build !linux

package command

const maxrssUnit = 1 // bytes, where it is not Linux

// Subreaper does nothing: other systems have none.
func Subreaper() error { return nil }

// StartTime is not known, so no process is taken for the rest of a lost run.
func StartTime(int) uint64 { return 0 }
