package platform

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// WebPIDs returns the processes of a systemd unit, its main process (the oldest) first: from the unit's cgroup, in
// the unified layout of Amazon Linux 2023 or the legacy one of Amazon Linux 2. None is no error.
func WebPIDs(_ context.Context, o Options, unit string) ([]int, error) {
	h := host{Options: o}
	if unit == "" || strings.ContainsRune(unit, '/') {
		return nil, fmt.Errorf("no unit of the web process is known")
	}
	var pids []int
	for _, base := range []string{"/sys/fs/cgroup/system.slice/", "/sys/fs/cgroup/systemd/system.slice/", "/sys/fs/cgroup/unified/system.slice/"} {
		data, err := os.ReadFile(h.path(base + unit + "/cgroup.procs"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		break
	}
	slices.SortFunc(pids, func(a, b int) int { return h.startTime(a) - h.startTime(b) })
	return pids, nil
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot.
func (h host) startTime(pid int) int {
	data, err := os.ReadFile(h.path("/proc/" + strconv.Itoa(pid) + "/stat"))
	if err != nil {
		return 1 << 62
	}
	_, rest, _ := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 1 << 62
	}
	ticks, _ := strconv.Atoi(fields[19])
	return ticks
}
