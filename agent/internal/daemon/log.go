package daemon

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"
)

// newLog writes for journald, which stamps lines itself, without a time; for a person with one.
func newLog(w *os.File) *slog.Logger {
	o := &slog.HandlerOptions{}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return limitLines(slog.NewTextHandler(w, o))
}

// Lines of one second, of one kind and in all. More are summed up: a table of 20,000 jobs has as many lines in one
// second, and journald, which takes 1,000 from a unit in 30 s unless the unit says otherwise (systemd 219 cannot),
// would drop those that say which person ran what.
const (
	maxKind = 20
	maxAll  = 30
)

// limited is a handler for which too many lines of a kind, those with the same message, are one with their number. A
// line with a caller is written in any case: it is the audit.
type limited struct {
	slog.Handler
	*flood
}

func limitLines(h slog.Handler) *slog.Logger {
	return slog.New(&limited{h, &flood{sums: h, kinds: map[string]*kind{}}})
}

// flood is what was written in the present second.
type flood struct {
	sums slog.Handler

	mu    sync.Mutex
	kinds map[string]*kind
	all   int
}

type kind struct{ written, more int }

func (h *limited) Handle(ctx context.Context, r slog.Record) error {
	if !h.admits(ctx, r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h *limited) admits(ctx context.Context, r slog.Record) bool {
	audit := false
	r.Attrs(func(a slog.Attr) bool { audit = a.Key == "caller"; return !audit })
	if audit {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.kinds) == 0 {
		time.AfterFunc(time.Second, h.nextSecond)
	}
	k := h.kinds[r.Message]
	if k == nil {
		k = &kind{}
		h.kinds[r.Message] = k
	}
	if k.written >= maxKind || h.all >= maxAll && k.written > 0 { // the first of a kind may be the one that matters
		k.more++
		return false
	}
	k.written++
	h.all++
	return true
}

// nextSecond writes how many lines of each kind were not.
func (h *flood) nextSecond() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for message, k := range h.kinds {
		if k.more > 0 {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, message, 0)
			r.AddAttrs(slog.Int("more", k.more))
			_ = h.sums.Handle(context.Background(), r)
		}
	}
	clear(h.kinds)
	h.all = 0
}

// WithAttrs and WithGroup keep the count with their origin.
func (h *limited) WithAttrs(a []slog.Attr) slog.Handler {
	return &limited{h.Handler.WithAttrs(a), h.flood}
}

// WithGroup is as WithAttrs.
func (h *limited) WithGroup(name string) slog.Handler {
	return &limited{h.Handler.WithGroup(name), h.flood}
}
