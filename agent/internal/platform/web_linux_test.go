package platform

import (
	"fmt"
	"os"
	"path/filepath"
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

// The first of a crowd of processes are looked at, and the others cost nothing.
func TestWebProcessAmongACrowd(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := ""
	for pid := 10; pid < 10+maxProcesses+50; pid++ {
		list += fmt.Sprintln(pid)
		write(fmt.Sprintf("proc/%d/stat", pid), fmt.Sprintf("%d (w) S 1 1 1 0 -1 0 0 0 0 0 1 0 0 0 20 0 1 0 %d 0 1000 0\n", pid, pid))
	}
	write("sys/fs/cgroup/system.slice/web.service/cgroup.procs", list)
	pids, err := WebPIDs(t.Context(), Options{Root: root}, "web.service")
	if err != nil || len(pids) != maxProcesses || pids[0] != 10 {
		t.Errorf("%d processes, %v", len(pids), err)
	}
}
