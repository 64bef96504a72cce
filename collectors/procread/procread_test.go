package procread

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

// A process that never answers costs one goroutine, however often it is asked, and all such processes maxReads.
func TestSilentProcessIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, reads := make(chan struct{}), 0
		defer func() { close(release); synctest.Wait() }()
		stuck := func() { <-release }
		ask := func(pid int, read func()) error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return Do(ctx, pid, uint32(pid/4), read) // four processes of a user
		}
		if err := ask(1, stuck); !errors.Is(err, ErrLate) || !errors.Is(err, ErrSilent) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		began := time.Now()
		for range 100 {
			if err := ask(1, func() { reads++ }); !errors.Is(err, ErrSilent) {
				t.Errorf("again: got %v", err)
			}
		}
		if reads != 0 || time.Since(began) != 0 {
			t.Errorf("asked %d times again, waited %v", reads, time.Since(began))
		}
		if err := ask(2, func() { reads++ }); err != nil || reads != 1 {
			t.Errorf("another process: %v", err)
		}
		for pid := 3; pid < 3+2*maxReads; pid++ {
			if err := ask(pid, stuck); err == nil {
				t.Error("a stuck read has ended")
			}
		}
		if len(under) != maxReads {
			t.Errorf("%d reads are under way, want %d", len(under), maxReads)
		}
	})
	if len(under) != 0 {
		t.Errorf("%d reads are left", len(under))
	}
}

// A user's silent processes take a part of the places, and another user's are read, whoever came first.
func TestSilentProcessesOfOneUserHideNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer func() { close(release); synctest.Wait() }()
		for pid := range 4 * maxReads {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_ = Do(ctx, pid, []uint32{64123, Others, Web}[pid%3], func() { <-release })
			cancel()
		}
		if len(under) != 3*maxOfOwner {
			t.Errorf("%d reads are under way, want %d", len(under), 3*maxOfOwner)
		}
		if err := Do(t.Context(), 1000, 64123, func() { t.Error("one more is read") }); err == nil || !strings.Contains(err.Error(), "64123") {
			t.Errorf("one more of the same user: %v", err)
		}
		for _, other := range []uint32{0, 64124} {
			read := false
			if err := Do(t.Context(), 1000, other, func() { read = true }); err != nil || !read {
				t.Errorf("of user %d: %v", other, err)
			}
		}
	})
}

// A process cannot choose whose it is: its directory's owner it can, and by a setuid program its effective user.
func TestOwnerIsWhoStartedTheProcess(t *testing.T) {
	for text, want := range map[string]uint32{
		"Name:\tsu\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n": 1000,
		"Name:\tUid:\\t0\nUid:\t64123\t1\t1\t1\n":                          64123,
		"Name:\tx\n": Others,
		"":           Others,
	} {
		proc := fstest.MapFS{"7/status": {Data: []byte(text)}}
		if got := Owner(proc, 7); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := Owner(fstest.MapFS{}, 7); got != Others {
		t.Errorf("gone: %d", got)
	}
}

// Two that ask for the same process at once are both answered.
func TestReadsOfOneProcessTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		for range 5 {
			go func() { done <- Do(t.Context(), 1, 0, func() { time.Sleep(100 * time.Millisecond) }) }()
		}
		for range 5 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
