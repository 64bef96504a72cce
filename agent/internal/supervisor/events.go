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
		for more := true; more; {
			var some []runs.Event
			some, after, more = s.events(after)
			for _, e := range some {
				if enc.Encode(e) != nil {
					return
				}
			}
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

// someEvents is how many are made at a time: each is a record in memory.
const someEvents = 256

// events returns the first of what is numbered above after, oldest first, the number up to which that is all, and
// whether there is more. They are made of the records, so they are as durable as those; a run that retention has
// removed has no events any more, and one whose record cannot be read is lost.
func (s *server) events(after uint64) (all []runs.Event, last uint64, more bool) {
	last = s.store.acknowledged()
	if last <= after {
		return nil, after, false
	}
	list := s.liveRuns((*live).snapshot)
	last, more = s.someNumbers(list, after, last)
	add := func(run runs.Run) {
		run.Args, run.AllArgs = nil, runs.AllArgs{}
		if run.StartSeq > after && run.StartSeq <= last {
			began := run
			began.State, began.EndSeq = runs.StateRunning, 0
			all = append(all, runs.Event{Seq: run.StartSeq, Type: runs.EventStarted, Run: began})
		}
		if run.EndSeq > after && run.EndSeq <= last {
			all = append(all, runs.Event{Seq: run.EndSeq, Type: runs.EventEnded, Run: run})
		}
	}
	live := make(map[string]bool)
	for _, run := range list {
		live[run.ID] = true
		add(run)
	}
	unsent := make(map[string]entry)
	for _, id := range s.store.list(func(id string, e entry) bool {
		if !live[id] && (e.seq > after && e.seq <= last || e.start > after && e.start <= last) {
			unsent[id] = e
			return true
		}
		return false
	}) {
		rec, err := s.store.read(id)
		if err != nil { // a reader that waits for its end learns that it is lost
			e := unsent[id]
			rec.Run.Kind, rec.Run.Name, rec.Run.ExitCode = e.kind, e.name, command.CodeRefused
			rec.Run.Ended, rec.Run.EndSeq = e.at, e.seq
		}
		add(rec.Run)
	}
	slices.SortFunc(all, func(a, b runs.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return all, last, more
}

// someNumbers returns the number that someEvents of those above after reach to, last if that is all.
func (s *server) someNumbers(live []runs.Run, after, last uint64) (to uint64, more bool) {
	var numbers []uint64
	add := func(start, end uint64) {
		for _, n := range []uint64{start, end} {
			if n > after && n <= last {
				numbers = append(numbers, n)
			}
		}
	}
	for _, run := range live {
		add(run.StartSeq, run.EndSeq)
	}
	s.store.list(func(_ string, e entry) bool { add(e.start, e.seq); return false })
	if len(numbers) <= someEvents {
		return last, false
	}
	slices.Sort(numbers)
	return numbers[someEvents-1], true
}
