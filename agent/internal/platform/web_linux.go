package platform

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"beanstalk-agent/collectors/procstat"
)

// WebPIDs returns the processes of a systemd unit that serve it, the oldest first: its main process, what that forked,
// and what a shell in front of it started. A program that a worker runs for a moment, with an environment of its own
// making, is not one of them. They are found in the unit's cgroup, in the unified layout of Amazon Linux 2023 or the
// legacy one of Amazon Linux 2. None is no error.
func WebPIDs(_ context.Context, o Options, unit string) ([]int, error) {
	if unit == "" || strings.ContainsRune(unit, '/') {
		return nil, errors.New("the unit of the web process is not known")
	}
	h := host{Options: o}
	procs := map[int]process{}
	for _, hierarchy := range []string{"", "systemd/", "unified/"} {
		data, err := os.ReadFile(h.path("/sys/fs/cgroup/" + hierarchy + "system.slice/" + unit + "/cgroup.procs"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || pid <= 0 { // 0: of another pid namespace
				continue
			}
			if len(procs) == maxProcesses {
				break
			}
			if p, ok := h.process(pid); ok {
				procs[pid] = p
			}
		}
		break
	}
	return workers(procs), nil
}

// maxProcesses bounds those that are looked at, for each health check and each status: the unit's user starts as many
// as it likes. The oldest, which the kernel lists first, are the server's.
const maxProcesses = 1000

// process is what distinguishes a worker from a program it runs.
type process struct {
	parent int
	start  uint64 // in clock ticks since boot
	exe    string // "" when it cannot be read
}

// workers returns the serving processes, the oldest first.
func workers(procs map[int]process) []int {
	var pids []int
	for pid := range procs {
		if serves(procs, pid) {
			pids = append(pids, pid)
		}
	}
	slices.SortFunc(pids, func(a, b int) int {
		return cmp.Or(cmp.Compare(procs[a].start, procs[b].start), a-b)
	})
	return pids
}

// serves reports whether a process is the unit's own: every step up to the one systemd started is a fork, or the
// program behind a shell.
func serves(procs map[int]process, pid int) bool {
	for range 64 { // deeper than any server; a loop through reused pids ends too
		p := procs[pid]
		parent, inside := procs[p.parent]
		if !inside {
			return true
		}
		_, grandparent := procs[parent.parent]
		behindShell := !grandparent && slices.Contains(shells, filepath.Base(parent.exe))
		if p.exe != parent.exe && p.exe != "" && !behindShell {
			return false
		}
		pid = p.parent
	}
	return false
}

var shells = []string{"sh", "dash", "bash", "busybox"}

// process reads /proc/PID/stat and exe.
func (h host) process(pid int) (process, bool) {
	dir := h.path("/proc/" + strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false
	}
	stat, err := procstat.Parse(data)
	if err != nil || stat.Dead() {
		return process{}, false
	}
	exe, _ := os.Readlink(filepath.Join(dir, "exe"))
	return process{stat.Parent, stat.Started, exe}, true
}
