package platform

import (
	"slices"
	"testing"
)

func TestWhatAWorkerRunsIsNoWorker(t *testing.T) {
	procs := map[int]process{
		10: {parent: 1, start: 5, exe: "/usr/bin/bash"},     // the unit's ExecStart is a shell
		12: {parent: 10, start: 6, exe: "/usr/bin/python3"}, // gunicorn's master
		11: {parent: 12, start: 9, exe: "/usr/bin/python3"}, // workers
		14: {parent: 12, start: 8, exe: "/usr/bin/python3"},
		15: {parent: 14, start: 10, exe: "/usr/bin/git"}, // what a worker runs
		16: {parent: 15, start: 11, exe: "/usr/bin/git"},
		17: {parent: 14, start: 12, exe: "/usr/bin/bash"}, // and through a shell
		18: {parent: 17, start: 13, exe: "/usr/bin/python3"},
		19: {parent: 12, start: 14, exe: ""}, // not readable: counts
	}
	if got, want := workers(procs), []int{10, 12, 14, 11, 19}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
