//go:build !linux

package fdconn

// Apart calls f, on a thread of its own where this system can.
func Apart(_ []int, f func()) { go f() }

func findRuntimeFiles() {}
