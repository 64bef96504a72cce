package health

import (
	"log/slog"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"time"

	"beanstalk-agent/agent/internal/api"
)

// floods are of users whose connections are closed since others wait and they send no request. No more users than may
// connect are kept. Its zero value is ready.
type floods struct {
	mu sync.Mutex
	of map[uint32]flood
}

type flood struct {
	since, last time.Time
	closed      int
}

// floodShown is how long after its last connection was closed a flood is shown. One that begins later is another.
const floodShown = 10 * time.Minute

// count counts a connection that was closed before its request arrived, and logs a flood once.
func (f *floods) count(from peer, log *slog.Logger) {
	if !from.known {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now, was := time.Now(), f.of[from.UID]
	if now.Sub(was.last) > floodShown {
		was = flood{since: now}
		log.Warn("a user floods the health socket: what sends no request is closed", "user", nameOf(from.UID),
			"pid", from.PID)
	}
	if f.of == nil {
		f.of = map[uint32]flood{}
	}
	f.of[from.UID] = flood{was.since, now, was.closed + 1}
}

// lines name who floods the socket, or did until lately.
func (f *floods) lines() (lines []api.Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for uid, flood := range f.of {
		if time.Since(flood.last) > floodShown {
			delete(f.of, uid)
			continue
		}
		name := nameOf(uid)
		line := api.NewLine("health", api.Warn, "end what connects there: ps -u "+name,
			"user %s floods the health socket: %s without a request closed; checks are answered all the same",
			name, api.Count(flood.closed, "connection"))
		line.Since = flood.since
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b api.Line) int { return a.Since.Compare(b.Since) })
	return lines
}

// nameOf is a user's name, else his number.
func nameOf(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return number
}
