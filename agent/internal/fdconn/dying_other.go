//go:build !linux

package fdconn

func dying(int) bool { return false }

// Stopped reports whether a signal such as SIGSTOP holds a process; not known here.
func Stopped(int) bool { return false }
