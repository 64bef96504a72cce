// Package procread reads of a process what the process itself can withhold.
//
// The kernel locks a process's memory map while it answers environ, cmdline, maps or smaps_rollup of /proc/PID. A
// process can hold that lock for as long as it lives: it unmaps a file of a file system of its own, which never
// answers. The other files that we read, such as stat, status, exe and fd, do not need the lock.
package procread

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrSilent: a process does not answer.
var ErrSilent = errors.New("the process does not answer: it holds the lock of its memory map")

// ErrLate is an ErrSilent after which read is still under way.
var ErrLate = fmt.Errorf("%w", ErrSilent)

// maxReads bounds the threads that wait for processes: each is one of TasksMax= of agent.service.
const maxReads = 32

// soon is far above what an answer takes. A process that has not answered by then is not waited for a second time.
const soon = time.Second

// reading is one read under way.
type reading struct {
	began time.Time
	ended chan struct{} // closed
}

var (
	mu    sync.Mutex
	under = map[int]*reading{} // by process
)

// Do calls read, which reads one file of process pid, and waits for it no longer than ctx. After ErrLate read goes on:
// what it writes to is then its own. There is at most one for each process.
func Do(ctx context.Context, pid int, read func()) error {
	for {
		r, mine, err := begin(pid)
		if err != nil {
			return err
		}
		if mine {
			go func() { // not waited for longer than ctx: it ends with the process at the latest
				defer end(pid, r)
				read()
			}()
		}
		select {
		case <-r.ended:
		case <-ctx.Done():
			if mine {
				return fmt.Errorf("%w (%w)", ErrLate, context.Cause(ctx))
			}
			return ErrSilent
		}
		if mine {
			return nil
		}
	}
}

// begin returns a new reading, which is the caller's, or the one under way.
func begin(pid int) (r *reading, mine bool, err error) {
	mu.Lock()
	defer mu.Unlock()
	if r = under[pid]; r != nil {
		if time.Since(r.began) > soon {
			return nil, false, ErrSilent
		}
		return r, false, nil
	}
	if len(under) >= maxReads {
		return nil, false, fmt.Errorf("%d processes do not answer: no more are read", len(under))
	}
	r = &reading{time.Now(), make(chan struct{})}
	under[pid] = r
	return r, true, nil
}

func end(pid int, r *reading) {
	mu.Lock()
	defer mu.Unlock()
	delete(under, pid)
	close(r.ended)
}
