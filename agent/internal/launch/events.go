package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/runs"
)

// Ends tells of every run's beginning and end once, in that order, also of those that ended while the agent
// was away: it keeps in a file up to where it has told. All fields are required.
type Ends struct {
	Events func(ctx context.Context, after uint64) iter.Seq2[runs.Event, error]
	Last   func(context.Context) (uint64, error) // the newest event there is
	File   string
	Fresh  bool // the supervisor has never run anything, so there is no history
	Began  func(runs.Run)
	Tell   func(runs.Run)
	Log    *slog.Logger
}

// Run follows the supervisor's events until ctx is done. Where nothing has been
// told yet it begins with what comes next: history is no news. To ask for that may
// take longer than the first run does, so where there is no history nothing is asked.
func (e *Ends) Run(ctx context.Context) error {
	after, known := e.load()
	if !known && e.Fresh {
		known = true
		e.save(after)
	}
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		if !known {
			last, err := e.Last(ctx)
			if after, known = last, err == nil; known {
				e.save(after)
			}
		}
		for ev, err := range e.follow(ctx, after, known) {
			if err != nil {
				if ctx.Err() == nil {
					e.Log.Debug("supervisor's events end", "err", err)
				}
				break
			}
			wait = 100 * time.Millisecond
			switch ev.Type {
			case runs.EventStarted:
				e.Began(ev.Run)
			case runs.EventEnded:
				e.Tell(ev.Run)
			}
			after = ev.Seq
			e.save(after)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (e *Ends) follow(ctx context.Context, after uint64, known bool) iter.Seq2[runs.Event, error] {
	if !known {
		return func(func(runs.Event, error) bool) {}
	}
	return e.Events(ctx, after)
}

func (e *Ends) load() (uint64, bool) {
	b, err := os.ReadFile(e.File)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	var n uint64
	if err == nil {
		n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if err != nil { // as a full disk leaves it
		e.Log.Error("read event cursor: all that is known is told again", "err", err)
		n = 0
	}
	return n, true
}

// save notes what has been told, in place: twenty digits in one write, so that
// it costs microseconds. A torn or old note means that an end is told twice,
// never that one is not told.
func (e *Ends) save(n uint64) {
	f, err := os.OpenFile(e.File, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%020d\n", n)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		e.Log.Error("write event cursor", "err", err)
	}
}
