package cron

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"beanstalk-agent/agent/internal/notify"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/scheduler"
)

// FollowRuns logs, counts and reports every run's start and end, an exec's too, until ctx is done.
func (c *Cron) FollowRuns(ctx context.Context) error {
	e := runEvents{events: c.cfg.Runs.Events, file: filepath.Join(c.cfg.StateDir, "told"), none: c.cfg.NoRuns,
		log:     c.log,
		last:    func(ctx context.Context) (uint64, error) { i, err := c.cfg.Runs.Info(ctx); return i.LastSeq, err },
		onStart: c.onStart, onEnd: c.onEnd}
	return e.run(ctx)
}

func (c *Cron) onStart(r runs.Run) {
	if r.Kind == "cron" {
		c.notices.send(notify.Event{Job: r.Name, Kind: notify.Started, At: r.Started, Run: r.ID})
	}
}

func (c *Cron) onEnd(r runs.Run) {
	logEnd(c.log, r)
	if r.Kind != "cron" {
		c.counts.exec.Add(1)
		return
	}
	c.counts.ended(r)
	if r.Replaced() {
		return // the next run is reported
	}
	job, ok := c.watcher.State().Table.Job(r.Name)
	again := ok && triedAgain(job, r)
	if again && !(r.Interrupted() && c.leaving()) {
		return // the last attempt is reported, or that there is none
	}
	if r.Interrupted() && ok && rerunElsewhere(job, r) {
		c.fleet.losses.lookIn(job, ownLook) // whoever finds that it is not run again reports it
		return
	}
	if r.Interrupted() {
		c.counts.missed.Add(1) // its slot has not been served
	}
	c.notices.ended(r, c.fleet.outcomeBefore(r.Name), again)
}

// leaving reports whether nothing is tried again here until this machine is back, if it ever is.
func (c *Cron) leaving() bool { return c.cfg.Leaving != nil && c.cfg.Leaving() }

func logEnd(log *slog.Logger, r runs.Run) {
	a := []any{"run", r.ID, "kind", r.Kind, "name", r.Name, "how", runs.Describe(r),
		"took", r.Took().Round(time.Millisecond).String(), "peak_mb", r.PeakMemory >> 20}
	switch {
	case r.Kind == "exec":
		a = append(a, "caller", r.Caller.Login)
	case r.Reason != string(scheduler.Scheduled): // here too: an agent killed right after the start has not logged it
		a = append(a, "why", r.Reason)
	}
	log.Info("run ended", a...)
}

// runEvents delivers the start and the end of every run once, in that order, also of those that ended while the agent
// was away: the number of the last event is kept in a file.
type runEvents struct {
	events  func(ctx context.Context, after uint64) iter.Seq2[runs.Event, error]
	last    func(context.Context) (uint64, error) // the newest event there is
	file    string
	none    bool // the supervisor has never run anything, so there is no history
	onStart func(runs.Run)
	onEnd   func(runs.Run)
	log     *slog.Logger
}

// run follows the supervisor's events until ctx is done. Without a file it begins with what comes next: history is no
// news. To ask for that may take longer than the first run does, so where there is no history it is not asked for.
func (e *runEvents) run(ctx context.Context) error {
	after, known := e.load()
	if !known && e.none {
		known = true
		e.save(after)
	}
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		if !known {
			last, err := e.last(ctx)
			if after, known = last, err == nil; known {
				e.save(after)
			}
		}
		if known && e.follow(ctx, &after) {
			wait = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// follow delivers events until the connection ends, and reports whether there were any.
func (e *runEvents) follow(ctx context.Context, after *uint64) (any bool) {
	for ev, err := range e.events(ctx, *after) {
		if err != nil {
			if ctx.Err() == nil {
				e.log.Debug("supervisor's events end", "err", err)
			}
			break
		}
		switch ev.Type {
		case runs.EventStarted:
			e.onStart(ev.Run)
		case runs.EventEnded:
			e.onEnd(ev.Run)
		}
		any, *after = true, ev.Seq
		e.save(*after)
	}
	return any
}

func (e *runEvents) load() (uint64, bool) {
	b, err := os.ReadFile(e.file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	var n uint64
	if err == nil {
		n, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if err != nil { // as a full disk leaves it
		e.log.Error("read event cursor: all known runs are reported again", "err", err)
		n = 0
	}
	return n, true
}

// save writes in place: twenty digits in one write, so that it costs microseconds. A torn or old file means that an end
// is delivered twice, never that one is not delivered.
func (e *runEvents) save(n uint64) {
	f, err := os.OpenFile(e.file, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%020d\n", n)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		e.log.Error("write event cursor", "err", err)
	}
}
