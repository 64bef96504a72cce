package capacity

import "strings"

// Process is one process of the application's group.
type Process struct {
	PID, Parent int
	Worker
}

// Split separates the workers from the rest of a group, which is added up: the
// master they were forked from, a shell above it, processes that a worker has started.
//
// The workers are the children of the process with the most children, which is how a forking server looks. Of several
// such processes it is the one with the largest child: of a shell, a master and its one worker that is the master; of a
// worker and a converter it runs, mostly the master too, and a converter is never old enough to count as warm. If no
// process has a child, all are workers.
func Split(ps []Process) (workers []Worker, rest Worker) {
	parent, found := busiest(ps)
	for _, p := range ps {
		if !found || p.Parent == parent {
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

// busiest returns the process with the most children in the group.
func busiest(ps []Process) (pid int, found bool) {
	type children struct {
		n       int
		largest uint64
	}
	in := map[int]bool{}
	for _, p := range ps {
		in[p.PID] = true
	}
	of := map[int]children{}
	for _, p := range ps {
		if in[p.Parent] {
			c := of[p.Parent]
			of[p.Parent] = children{c.n + 1, max(c.largest, p.PSS)}
		}
	}
	var most children
	for _, p := range ps { // in their order, so that the result does not vary
		c, ok := of[p.PID]
		if ok && (!found || c.n > most.n || c.n == most.n && c.largest > most.largest) {
			pid, most, found = p.PID, c, true
		}
	}
	return pid, found
}

// generated is how the Procfile begins that the Python platform writes when the
// application has none; its number comes from the platform's options.
const generated = "web: gunicorn --bind 127.0.0.1:8000 --workers="

// SetByOf returns, from the text of the application's Procfile, where the number of workers is set.
func SetByOf(procfile []byte) SetBy {
	if strings.HasPrefix(strings.TrimSpace(string(procfile)), generated) {
		return PythonOptions
	}
	return Procfile
}
