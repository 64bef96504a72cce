package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/runs"
)

// find returns a run by its id or a beginning of it that is unique among all. l is nil once it has ended.
func (s *server) find(id string) (run runs.Run, l *live, e *runs.Refused) {
	s.mu.Lock()
	l = s.live[id]
	var ids []string
	for other := range s.live {
		if strings.HasPrefix(other, id) {
			ids = append(ids, other)
		}
	}
	s.mu.Unlock()
	if l == nil && !s.store.has(id) {
		ids = append(ids, s.store.list(func(other string, _ entry) bool { return strings.HasPrefix(other, id) && !slices.Contains(ids, other) })...)
		switch {
		case len(ids) == 0 || id == "":
			return run, nil, &runs.Refused{Status: 404, Kind: runs.KindUnknown, Message: "no run " + strconv.Quote(id), Hint: "agent ps --all lists the runs that are known"}
		case len(ids) > 1:
			return run, nil, misuse("%q is the beginning of %d runs", id, len(ids))
		}
		id = ids[0]
		s.mu.Lock()
		l = s.live[id]
		s.mu.Unlock()
	}
	if l != nil {
		run = l.snapshot()
		if run.Live() {
			return run, l, nil
		}
		return run, nil, nil
	}
	rec, err := s.store.read(id)
	if err != nil {
		return run, nil, &runs.Refused{Status: 500, Message: "read record of run " + id + ": " + err.Error()}
	}
	return rec.Run, nil, nil
}

// runs lists what f chooses: what is live, then what has ended, whether or not all of it is gone; newest first.
func (s *server) runs(f runs.Filter) []runs.Run {
	list := slices.DeleteFunc(s.liveRuns(), func(r runs.Run) bool {
		return !r.Live() || f.Kind != "" && r.Kind != f.Kind || f.Name != "" && r.Name != f.Name
	})
	slices.SortFunc(list, func(a, b runs.Run) int { return cmp.Compare(b.StartSeq, a.StartSeq) })
	if !f.Live {
		for _, id := range s.store.list(func(id string, e entry) bool {
			return (f.Kind == "" || e.kind == f.Kind) && (f.Name == "" || e.name == f.Name)
		}) {
			if f.Limit > 0 && len(list) >= f.Limit {
				break
			}
			if slices.ContainsFunc(list, func(r runs.Run) bool { return r.ID == id }) {
				continue // ended, but that is not told yet
			}
			if rec, err := s.store.read(id); err == nil {
				list = append(list, rec.Run)
			}
		}
	}
	if f.Limit > 0 && len(list) > f.Limit {
		list = list[:f.Limit]
	}
	return list
}

func (s *server) liveRuns() []runs.Run {
	s.mu.Lock()
	all := make([]*live, 0, len(s.live))
	for _, l := range s.live {
		all = append(all, l)
	}
	s.mu.Unlock()
	list := make([]runs.Run, 0, len(all))
	for _, l := range all {
		if run := l.snapshot(); run.State != runs.StateStarting {
			list = append(list, run)
		}
	}
	return list
}

// announce wakes those who wait for events. It reports whether the server is ending all runs.
func (s *server) announce() (closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changedLocked()
	return s.closing
}

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

func (s *server) agentCame(n int) {
	s.mu.Lock()
	s.agents += n
	s.changedLocked()
	s.mu.Unlock()
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

// events returns what is numbered above after, oldest first. They are made of the records, so they are
// as durable as those; a run that retention has removed has no events any more, and one whose record cannot
// be read is lost.
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
	untold := make(map[string]entry)
	for _, id := range s.store.list(func(id string, e entry) bool {
		if e.seq > after || e.start > after {
			untold[id] = e
			return true
		}
		return false
	}) {
		if slices.ContainsFunc(list, func(r runs.Run) bool { return r.ID == id }) {
			continue
		}
		rec, err := s.store.read(id)
		if err != nil { // whoever waits for its end hears at least that there is none to be had
			e := untold[id]
			rec.Run.Kind, rec.Run.Name, rec.Run.Ended, rec.Run.EndSeq, rec.Run.ExitCode = e.kind, e.name, e.at, e.seq, 125
		}
		add(rec.Run)
	}
	slices.SortFunc(all, func(a, b runs.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}
