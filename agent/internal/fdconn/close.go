package fdconn

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Tally counts by user. Its zero value is ready.
type Tally struct {
	mu sync.Mutex
	n  map[uint32]int
}

// Add adds n, which may be negative.
func (t *Tally) Add(uid uint32, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[uint32]int{}
	}
	if t.n[uid] += n; t.n[uid] == 0 {
		delete(t.n, uid)
	}
}

// Of is what is counted for a user.
func (t *Tally) Of(uid uint32) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[uid]
}

// All is what is counted, by user; nil: nothing.
func (t *Tally) All() map[uint32]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}

// Closing counts closes that have not ended, by whom the descriptors came from. One can hang for as long as that user
// likes (the last end of a pipe to which a writer stalls), with a thread each: at MaxClosing nothing more is taken from
// him.
var Closing Tally

// MaxClosing is far above what is under way at a time.
const MaxClosing = 16

// CloseAll closes descriptors that came from a user; one below 0 is none. It returns at once, with their numbers free.
func CloseAll(uid uint32, files []int) { closeAll(uid, files, func() {}) }

// closeAll calls then when all are closed.
func closeAll(uid uint32, files []int, then func()) {
	files = slices.DeleteFunc(slices.Clone(files), func(fd int) bool { return fd < 0 })
	if len(files) == 0 {
		then()
		return
	}
	Closing.Add(uid, 1)
	Apart(files, func() {
		withoutLinger(func() { closeEach(files) })
		Closing.Add(uid, -1)
		then()
	})
}

func closeEach(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}
