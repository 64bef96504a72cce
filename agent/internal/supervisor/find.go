package supervisor

import (
	"cmp"
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
		ids = append(ids, s.store.list(func(other string, _ entry) bool {
			return strings.HasPrefix(other, id) && !slices.Contains(ids, other)
		})...)
		switch {
		case len(ids) == 0 || id == "":
			return run, nil, &runs.Refused{Status: 404, Kind: runs.KindUnknown,
				Message: "no run " + strconv.Quote(id), Hint: "agent ps --all lists the runs that are known"}
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

// runs lists those that f chooses: the live ones, then the ended, each newest first.
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
				continue // ended, but not reported yet
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
