// Package procread reads of a process what the process itself can withhold.
//
// The kernel locks a process's memory map while it answers environ, cmdline, maps or smaps_rollup of /proc/PID. A
// process can hold that lock for as long as it lives: it unmaps a file of a file system of its own, which never
// answers. The other files that we read, such as stat, status, exe and fd, do not need the lock.
package procread

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"sync"
	"time"
)

// ErrSilent: a process does not answer.
var ErrSilent = errors.New("the process does not answer: it holds the lock of its memory map")

// ErrLate is an ErrSilent after which read is still under way.
var ErrLate = fmt.Errorf("%w", ErrSilent)

// maxReads bounds the threads that wait for processes: each is one of TasksMax= of agent.service. One user's processes
// have maxOfOwner of them, so that they keep nobody from reading another's.
const (
	maxReads   = 32
	maxOfOwner = 8
)

// Owners that are no user.
const (
	Others = math.MaxUint32     // of processes whose user is not known, or does not matter: together
	Web    = math.MaxUint32 - 1 // of the web processes, whoever they run as
)

// soon is far above what an answer takes. A process that has not answered by then is not waited for a second time.
const soon = time.Second

// reading is one read under way.
type reading struct {
	owner uint32
	began time.Time
	ended chan struct{} // closed
}

var (
	mu    sync.Mutex
	under = map[int]*reading{} // by process
)

// Owner returns the user who started a process, in a /proc: its real user. It is not who owns the directory there: a
// process can give that to root.
func Owner(proc fs.FS, pid int) uint32 {
	text, _ := fs.ReadFile(proc, strconv.Itoa(pid)+"/status")
	_, after, _ := bytes.Cut(text, []byte("\nUid:\t"))
	real, _, _ := bytes.Cut(after, []byte("\t"))
	uid, err := strconv.ParseUint(string(real), 10, 32)
	if err != nil {
		return Others
	}
	return uint32(uid)
}

// Do calls read, which reads one file of process pid of a user, and waits for it no longer than ctx. After ErrLate read
// goes on: what it writes to is then its own. There is at most one for each process.
func Do(ctx context.Context, pid int, owner uint32, read func()) error {
	for {
		r, mine, err := begin(pid, owner)
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
func begin(pid int, owner uint32) (r *reading, mine bool, err error) {
	mu.Lock()
	defer mu.Unlock()
	if r = under[pid]; r != nil {
		if time.Since(r.began) > soon {
			return nil, false, ErrSilent
		}
		return r, false, nil
	}
	of := 0
	for _, r := range under {
		if r.owner == owner {
			of++
		}
	}
	switch {
	case of >= maxOfOwner:
		return nil, false, fmt.Errorf("%d processes of %s do not answer: no more of those are read", of, whose(owner))
	case len(under) >= maxReads:
		return nil, false, fmt.Errorf("%d processes do not answer: no more are read", len(under))
	}
	r = &reading{owner, time.Now(), make(chan struct{})}
	under[pid] = r
	return r, true, nil
}

func whose(owner uint32) string {
	switch owner {
	case Others:
		return "other users"
	case Web:
		return "the application"
	}
	return fmt.Sprintf("user %d", owner)
}

func end(pid int, r *reading) {
	mu.Lock()
	defer mu.Unlock()
	delete(under, pid)
	close(r.ended)
}
