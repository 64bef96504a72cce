package collectors

import (
	"context"
	"time"

	"github.com/shirou/gopsutil/v3/host"
)

// bootClock is when the host started, to the second, read once a minute: the
// system's clock may be set meanwhile.
type bootClock struct {
	boot time.Time // zero: not known
	next time.Time // when to read it again
}

func (b *bootClock) at(now time.Time) time.Time {
	if now.Before(b.next) {
		return b.boot
	}
	b.next = now.Add(time.Minute)
	if s, err := host.BootTimeWithContext(gopsutilContext(context.Background(), "/proc")); err == nil {
		b.boot = time.Unix(int64(s), 0)
	}
	return b.boot
}
