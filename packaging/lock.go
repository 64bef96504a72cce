package packaging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lock excludes other installations, until the file is closed. It waits for a minute: less than agent.config gives it.
// It is on a file that only root can open: whoever can open a file, or a directory, can hold a lock on it for ever.
func lock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it has not ended within a minute"))
	defer cancel()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			f.Truncate(0) // the pid is for the message only
			f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		select {
		case <-ctx.Done():
			b, _ := io.ReadAll(io.NewSectionReader(f, 0, 20))
			f.Close()
			return nil, fmt.Errorf("wait for another installation, process %q, which holds %q: %w",
				strings.TrimSpace(string(b)), path, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
