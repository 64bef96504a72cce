package collectors

import "bytes"

// parsePIDs appends the numbers of a cgroup.procs (one a line) or a children
// file (all in one line) to pids. 0, a process of another PID namespace, is
// left out.
func parsePIDs(b []byte, pids []int) ([]int, error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		for len(line) > 0 {
			var word []byte
			word, line = cutWord(line)
			if len(word) == 0 {
				break // trailing blanks
			}
			pid, ok := number(word)
			if !ok || pid >= 1<<31 {
				return pids, lineError("process list", n, word, "a process number")
			}
			if pid > 0 {
				pids = append(pids, int(pid))
			}
		}
	}
	return pids, nil
}

// parseKeyed returns the number after key in a file of "key number" lines, as
// memory.stat and cpu.stat are.
func parseKeyed(b []byte, key string) (n uint64, found bool, err error) {
	for i := 1; len(b) > 0; i++ {
		var line []byte
		line, b = cutLine(b)
		word, rest := cutWord(line)
		if string(word) != key {
			continue
		}
		n, ok := number(rest)
		if !ok {
			return 0, false, lineError(key, i, line, "a number")
		}
		return n, true, nil
	}
	return 0, false, nil
}

// parseProcCgroup returns the cgroup of a process, without the leading slash,
// from the text of its /proc/PID/cgroup: systemd's own hierarchy on version 1,
// the only one on version 2. See cgroups(7).
func parseProcCgroup(b []byte) string {
	var unified string
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		_, rest, ok1 := bytes.Cut(line, []byte{':'})
		controllers, name, ok2 := bytes.Cut(rest, []byte{':'})
		if !ok1 || !ok2 {
			continue
		}
		name = bytes.TrimPrefix(name, []byte{'/'})
		switch {
		case string(controllers) == "name=systemd" && len(name) > 0:
			return string(name)
		case len(controllers) == 0:
			unified = string(name)
		}
	}
	return unified
}
