//go:build !linux

package fdconn

func withoutLinger(f func()) { f() }
