//go:build !linux

package fdconn

func dying(int) bool { return false }
