package launch

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"beanstalk-agent/agent/internal/supervisor"
	"beanstalk-agent/packaging/testbed/planted"
)

// history is a supervisor's events, from whatever point an agent asks.
func history(events []supervisor.Event, done func()) func(context.Context, uint64) iter.Seq2[supervisor.Event, error] {
	return func(_ context.Context, after uint64) iter.Seq2[supervisor.Event, error] {
		return func(yield func(supervisor.Event, error) bool) {
			for _, e := range events {
				if e.Seq > after && !yield(e, nil) {
					return
				}
			}
			done()
			yield(supervisor.Event{}, errors.New("connection lost"))
		}
	}
}

// Every beginning and end is told once, also over a restart of the agent, and what was over
// before the first start is no news.
func TestEndsAreToldOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	var told []string
	run := func(events []supervisor.Event) {
		ctx, stop := context.WithCancel(t.Context())
		e := &Ends{File: file, Log: planted.Log(t),
			Began:  func(r supervisor.Run) { told = append(told, "begin "+r.ID) },
			Tell:   func(r supervisor.Run) { told = append(told, r.ID) },
			Events: history(events, stop), Last: func(context.Context) (uint64, error) { return 2, nil }}
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	began := func(seq uint64, id string) supervisor.Event {
		return supervisor.Event{Seq: seq, Type: supervisor.EventStarted, Run: supervisor.Run{ID: id}}
	}
	ended := func(seq uint64, id string) supervisor.Event {
		return supervisor.Event{Seq: seq, Type: supervisor.EventEnded, Run: supervisor.Run{ID: id}}
	}
	events := []supervisor.Event{ended(1, "old"), {Seq: 2, Type: supervisor.EventStarted}, began(3, "a"), ended(4, "a")}
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
	for name, e := range map[string]*Ends{
		"the first run of all": {File: filepath.Join(t.TempDir(), "told"), Fresh: true},
		"a torn note":          {File: torn},
	} {
		ctx, stop := context.WithCancel(t.Context())
		var told []string
		e.Log, e.Began, e.Tell = planted.Log(t), func(supervisor.Run) {}, func(r supervisor.Run) { told = append(told, r.ID) }
		e.Events = history([]supervisor.Event{{Seq: 2, Type: supervisor.EventEnded, Run: supervisor.Run{ID: "a"}}}, stop)
		e.Last = func(context.Context) (uint64, error) { return 2, nil }
		if err := e.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, []string{"a"}) {
			t.Errorf("%s: told %v, want the end", name, told)
		}
	}
}
