package control

import (
	"log/slog"
	"sync"
	"time"
)

// refusals logs that users were refused: one line a minute for each, with how often it was, so that they cannot drown
// the lines of others.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	count map[string]int // by uid, since its last line
}

// maxRefused is how many users have lines of their own: user namespaces give one person thousands.
const maxRefused = 32

func newRefusals(log *slog.Logger) *refusals { return &refusals{log: log, count: map[string]int{}} }

func (r *refusals) add(uid uint32, route string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := number(uid)
	if _, known := r.count[key]; !known && len(r.count) >= maxRefused {
		key = "others"
	}
	if _, known := r.count[key]; known {
		r.count[key]++
		return
	}
	r.count[key] = 0
	r.log.Warn("refused", "uid", key, "user", nameOf(key), "route", route)
	time.AfterFunc(time.Minute, func() { r.sum(key) })
}

// sum logs how often a user was refused in the last minute, or forgets it.
func (r *refusals) sum(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.count[key]
	if n == 0 {
		delete(r.count, key)
		return
	}
	r.count[key] = 0
	r.log.Warn("refused", "uid", key, "user", nameOf(key), "times", n)
	time.AfterFunc(time.Minute, func() { r.sum(key) })
}
