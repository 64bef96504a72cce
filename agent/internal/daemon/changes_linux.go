package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// seldom is how often what no event reports is looked for: a file that is mounted over.
const seldom = 10 * time.Second

// changes calls look at once when a file in dirs is made, renamed, removed or written, and seldom besides, until ctx is
// done. A directory may be made later, if the one above it is among dirs.
func changes(ctx context.Context, dirs []string, look func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return eachSecond(ctx, look)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	for buf := make([]byte, 4096); ctx.Err() == nil; {
		for _, dir := range dirs {
			_, _ = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_CLOSE_WRITE|unix.IN_DELETE)
		}
		look()
		events.SetReadDeadline(time.Now().Add(seldom))
		stop := context.AfterFunc(ctx, func() { events.SetReadDeadline(time.Unix(1, 0)) })
		_, err := events.Read(buf)
		stop()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return eachSecond(ctx, look)
		}
	}
	return nil
}
