//go:build !linux

package claim

import "time"

var started = time.Now()

func bootClock() time.Duration { return time.Since(started) }
