//go:build !linux

package runs

import "golang.org/x/sys/unix"

const bootClock = unix.CLOCK_MONOTONIC
