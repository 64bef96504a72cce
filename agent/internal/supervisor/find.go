package supervisor

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"beanstalk-agent/agent/internal/runs"
)

// find returns a run by its id or a beginning of it that is unique among all, runs.Begins. l is nil once it has ended.
func (s *server) find(id string) (run runs.Run, l *live, e *runs.Refused) {
	s.mu.Lock()
	l = s.live[id]
	var ids []string
	for other := range s.live {
		if runs.Begins(other, id) {
			ids = append(ids, other)
		}
	}
	s.mu.Unlock()
	if l == nil && !s.store.has(id) {
		if len(ids) != 1 || id == "" { // else it is the only one in progress
			ids = append(ids, s.store.list(func(other string, _ entry) bool {
				return runs.Begins(other, id) && !slices.Contains(ids, other)
			})...)
		}
		switch {
		case len(ids) == 0 || id == "":
			return run, nil, &runs.Refused{Status: 404, Kind: runs.KindUnknown,
				Message: "no run " + strconv.Quote(id), Hint: "agent ps --all lists the runs that are known"}
		case len(ids) > 1:
			return run, nil, misuse("%q is the beginning of %d runs, such as %s", id, len(ids),
				strings.Join(ids[:min(len(ids), 5)], ", "))
		}
		id = ids[0]
		s.mu.Lock()
		l = s.live[id]
		s.mu.Unlock()
	}
	if l != nil {
		run = l.seen()
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

// list returns the runs that f chooses, each as JSON: the live ones, then the ended, each newest first. It reads one
// record after the other and no more than fit in MaxList; left is how many of the chosen do not.
func (s *server) list(f runs.Filter) (list []json.RawMessage, left int) {
	live := slices.DeleteFunc(s.liveRuns((*live).seen), func(r runs.Run) bool {
		return !r.Live() || f.Kind != "" && r.Kind != f.Kind || f.Name != "" && r.Name != f.Name
	})
	slices.SortFunc(live, func(a, b runs.Run) int { return cmp.Compare(b.StartSeq, a.StartSeq) })
	seen := make(map[string]bool) // live, though their end is recorded already
	for _, r := range live {
		seen[r.ID] = true
	}
	var ended []string
	if !f.Live {
		ended = s.store.list(func(id string, e entry) bool {
			return !seen[id] && (f.Kind == "" || e.kind == f.Kind) && (f.Name == "" || e.name == f.Name)
		})
	}
	chosen := len(live) + len(ended)
	if f.Limit > 0 {
		chosen = min(chosen, f.Limit)
	}
	size := 0
	list = []json.RawMessage{} // none is [] and not null
	for i := range chosen {
		var run runs.Run
		if i < len(live) {
			run = live[i]
		} else if rec, err := s.store.read(ended[i-len(live)]); err == nil {
			run = rec.Run
		} else {
			continue
		}
		run.Args, run.AllArgs = nil, runs.AllArgs{}
		b, err := json.Marshal(run)
		if size += len(b) + 1; err != nil || size > runs.MaxList {
			return list, chosen - i
		}
		list = append(list, b)
	}
	return list, 0
}
