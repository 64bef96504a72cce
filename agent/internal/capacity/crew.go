package capacity

import "strings"

// Process is one process of the application's group.
type Process struct {
	PID, Parent int
	Worker
}

// Split tells the workers from the rest of a group, which is added up: the
// master they were forked from, a shell above it, what a worker has started
// itself.
//
// The workers are the children of the process that has most of them, for that
// is what a server that forks looks like from outside. Among equals it is the
// one with the larger child: of a shell, a master and its one worker the last,
// of a worker and the converter it runs just now the first, mostly; a converter
// is also never old enough to count as warm. Where nobody is anybody's child,
// all are workers.
func Split(ps []Process) (workers []Worker, rest Worker) {
	boss, found := busiest(ps)
	for _, p := range ps {
		if !found || p.Parent == boss {
			workers = append(workers, p.Worker)
			continue
		}
		rest.PSS += p.PSS
		rest.Private += p.Private
		rest.CPU += p.CPU
		rest.Age = max(rest.Age, p.Age)
	}
	return workers, rest
}

// busiest returns the process with most children in the group.
func busiest(ps []Process) (pid int, found bool) {
	type brood struct {
		children int
		largest  uint64
	}
	in := map[int]bool{}
	for _, p := range ps {
		in[p.PID] = true
	}
	broods := map[int]brood{}
	for _, p := range ps {
		if in[p.Parent] {
			b := broods[p.Parent]
			broods[p.Parent] = brood{b.children + 1, max(b.largest, p.PSS)}
		}
	}
	var most brood
	for _, p := range ps { // in their order, for one answer to one question
		b, ok := broods[p.PID]
		if !ok {
			continue
		}
		if !found || b.children > most.children || b.children == most.children && b.largest > most.largest {
			pid, most, found = p.PID, b, true
		}
	}
	return pid, found
}

// generated begins the Procfile that the Python platform writes when the
// application has none; there its options decide.
const generated = "web: gunicorn --bind 127.0.0.1:8000 --workers="

// SetByOf tells from the text of the application's Procfile where the number of
// workers is set.
func SetByOf(procfile []byte) SetBy {
	if strings.HasPrefix(strings.TrimSpace(string(procfile)), generated) {
		return PythonOptions
	}
	return Procfile
}
