package cron

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// history is a supervisor's events, from whatever point an agent asks.
func history(events []runs.Event, done func()) func(context.Context, uint64) iter.Seq2[runs.Event, error] {
	return func(_ context.Context, after uint64) iter.Seq2[runs.Event, error] {
		return func(yield func(runs.Event, error) bool) {
			for _, e := range events {
				if e.Seq > after && !yield(e, nil) {
					return
				}
			}
			done()
			yield(runs.Event{}, errors.New("connection lost"))
		}
	}
}

// Every beginning and end is told once, also over a restart of the agent, and what was over
// before the first start is no news.
func TestEndsAreToldOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	var told []string
	run := func(events []runs.Event) {
		ctx, stop := context.WithCancel(t.Context())
		e := &runEvents{file: file, log: planted.Log(t),
			onStart: func(r runs.Run) { told = append(told, "begin "+r.ID) },
			onEnd:   func(r runs.Run) { told = append(told, r.ID) },
			events:  history(events, stop), last: func(context.Context) (uint64, error) { return 2, nil }}
		if err := e.run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	began := func(seq uint64, id string) runs.Event {
		return runs.Event{Seq: seq, Type: runs.EventStarted, Run: runs.Run{ID: id}}
	}
	ended := func(seq uint64, id string) runs.Event {
		return runs.Event{Seq: seq, Type: runs.EventEnded, Run: runs.Run{ID: id}}
	}
	events := []runs.Event{ended(1, "old"), {Seq: 2, Type: runs.EventStarted}, began(3, "a"), ended(4, "a")}
	run(events)
	run(append(events, began(5, "b"), ended(6, "b"))) // the agent was away while b ended
	run(append(events, began(5, "b"), ended(6, "b")))
	if want := []string{"begin a", "a", "begin b", "b"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// The first run of all may be over before the supervisor can say what is history; and a
// note that was not written whole, as when the disk is full, leaves no end untold.
func TestNoEndIsTakenForHistory(t *testing.T) {
	torn := filepath.Join(t.TempDir(), "told")
	if err := os.WriteFile(torn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*runEvents{
		"the first run of all": {file: filepath.Join(t.TempDir(), "told"), none: true},
		"a torn note":          {file: torn},
	} {
		ctx, stop := context.WithCancel(t.Context())
		var told []string
		e.log, e.onStart, e.onEnd = planted.Log(t), func(runs.Run) {}, func(r runs.Run) { told = append(told, r.ID) }
		e.events = history([]runs.Event{{Seq: 2, Type: runs.EventEnded, Run: runs.Run{ID: "a"}}}, stop)
		e.last = func(context.Context) (uint64, error) { return 2, nil }
		if err := e.run(ctx); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, []string{"a"}) {
			t.Errorf("%s: told %v, want the end", name, told)
		}
	}
}
