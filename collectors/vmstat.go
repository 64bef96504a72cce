package collectors

// vmstat is what we use of /proc/vmstat: counters since boot.
type vmstat struct {
	swapIn, swapOut uint64 // pages
	oomKills        uint64 // processes, those killed within a cgroup's limit too
	hasOOM          bool   // since Linux 4.13
}

func parseVmstat(b []byte) (v vmstat, err error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		key, rest := cutWord(line)
		var to *uint64
		switch string(key) {
		case "pswpin":
			to = &v.swapIn
		case "pswpout":
			to = &v.swapOut
		case "oom_kill":
			to, v.hasOOM = &v.oomKills, true
		default:
			continue
		}
		count, ok := number(rest)
		if !ok {
			return v, lineError("vmstat", n, line, "a number")
		}
		*to = count
	}
	return v, nil
}
