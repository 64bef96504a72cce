package collectors

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"time"

	"beanstalk-agent/collectors/procread"
)

// matches reports whether the command line of a user's process matches the pattern.
func (f *finder) matches(ctx context.Context, pid int, owner uint32) bool {
	b, err := f.cmdline(ctx, pid, owner)
	if err != nil || len(b) == 0 || pid == os.Getpid() {
		return false // gone, a kernel thread, or one that does not answer
	}
	return f.cfg.Match.Match(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
}

// cmdlineTime is how long one process may hold up the search, the first time that it does.
const cmdlineTime = 100 * time.Millisecond

// A command line may have megabytes, and each process one. Java's has some 10 kB.
const (
	maxLine   = 64 << 10 // what is read of one
	maxLines  = 1 << 15  // steps, as many kB with those of others: then it is
	shortLine = 1 << 10
)

// cmdline reads the beginning of a process's command line.
func (f *finder) cmdline(ctx context.Context, pid int, owner uint32) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cmdlineTime)
	defer cancel()
	var b []byte
	var err error
	buf, most := f.line, maxLine
	if f.steps > maxLines {
		most = shortLine
	}
	silent := procread.Do(ctx, pid, owner, func() {
		b, err = readHead(f.cfg.Proc, strconv.Itoa(pid)+"/cmdline", most, &buf)
	})
	if silent != nil {
		f.line = nil // the reader's
		return nil, silent
	}
	f.line = buf
	f.steps += 1 + len(b)>>10
	return b, err
}
