package supervisor

import (
	"beanstalk-agent/agent/internal/command"
	"beanstalk-agent/agent/internal/runs"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// getEvents streams events, one JSON value a line, for as long as the client stays.
func (s *server) getEvents(w http.ResponseWriter, r *http.Request) *runs.Refused {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		return misuse("after %q: expected a number", r.URL.Query().Get("after"))
	}
	if after > s.store.lastSeq() { // of runs that retention has removed to the last: numbers began anew
		after = 0
	}
	s.agentCame(1)
	defer s.agentCame(-1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	s.streamEvents(r.Context(), w, after)
	return nil
}

func (s *server) streamEvents(ctx context.Context, w http.ResponseWriter, after uint64) {
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	for last := false; ; {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		for _, e := range s.events(after) {
			if enc.Encode(e) != nil {
				return
			}
			after = e.Seq
		}
		if flush.Flush() != nil || last {
			return
		}
		select {
		case <-changed:
		case <-s.over:
			last = true
		case <-ctx.Done():
			return
		}
	}
}

// events returns what is numbered above after, oldest first. They are made of the records, so they are as durable as
// those; a run that retention has removed has no events any more, and one whose record cannot be read is lost.
func (s *server) events(after uint64) []runs.Event {
	last := s.store.acknowledged()
	if last <= after {
		return nil
	}
	var all []runs.Event
	add := func(run runs.Run) {
		if run.StartSeq > after && run.StartSeq <= last {
			began := run
			began.State, began.EndSeq = runs.StateRunning, 0
			all = append(all, runs.Event{Seq: run.StartSeq, Type: runs.EventStarted, Run: began})
		}
		if run.EndSeq > after && run.EndSeq <= last {
			all = append(all, runs.Event{Seq: run.EndSeq, Type: runs.EventEnded, Run: run})
		}
	}
	list := s.liveRuns()
	for _, run := range list {
		add(run)
	}
	unsent := make(map[string]entry)
	for _, id := range s.store.list(func(id string, e entry) bool {
		if e.seq > after || e.start > after {
			unsent[id] = e
			return true
		}
		return false
	}) {
		if slices.ContainsFunc(list, func(r runs.Run) bool { return r.ID == id }) {
			continue
		}
		rec, err := s.store.read(id)
		if err != nil { // a reader that waits for its end learns that it is lost
			e := unsent[id]
			rec.Run.Kind, rec.Run.Name, rec.Run.ExitCode = e.kind, e.name, command.CodeRefused
			rec.Run.Ended, rec.Run.EndSeq = e.at, e.seq
		}
		add(rec.Run)
	}
	slices.SortFunc(all, func(a, b runs.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}
