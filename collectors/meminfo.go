package collectors

import "errors"

// meminfo is what we use of /proc/meminfo, in bytes. See proc(5) and the
// kernel's Documentation/filesystems/proc.rst.
type meminfo struct {
	total, free, available uint64
	buffers, cached        uint64
	reclaimable            uint64 // kernel caches that can be given up
	swapTotal, swapFree    uint64

	hasAvailable bool
}

func parseMeminfo(b []byte) (m meminfo, err error) {
	for n := 1; len(b) > 0; n++ {
		var line []byte
		line, b = cutLine(b)
		key, rest := cutWord(line)
		to := m.field(key)
		if to == nil {
			continue
		}
		word, _ := cutWord(rest)
		kB, ok := number(word)
		if !ok || kB > 1<<50 {
			return m, lineError("meminfo", n, line, "a number of kB")
		}
		*to = kB << 10
		m.hasAvailable = m.hasAvailable || to == &m.available
	}
	if m.total == 0 {
		return m, errors.New("read meminfo: no MemTotal line")
	}
	if !m.hasAvailable {
		return m, errors.New("read meminfo: no MemAvailable line; Linux 3.14 or later has it")
	}
	m.available = min(m.available, m.total)
	return m, nil
}

func (m *meminfo) field(key []byte) *uint64 {
	switch string(key) {
	case "MemTotal:":
		return &m.total
	case "MemFree:":
		return &m.free
	case "MemAvailable:":
		return &m.available
	case "Buffers:":
		return &m.buffers
	case "Cached:":
		return &m.cached
	case "SReclaimable:":
		return &m.reclaimable
	case "SwapTotal:":
		return &m.swapTotal
	case "SwapFree:":
		return &m.swapFree
	}
	return nil
}

// usedLikeCloudWatchAgent is what the CloudWatch agent calls used: total, free,
// buffers and page cache apart. It counts shared memory and tmpfs, which live
// in the page cache but cannot be given up, as free.
func (m *meminfo) usedLikeCloudWatchAgent() uint64 {
	return m.total - min(m.total, m.free+m.buffers+m.cached+m.reclaimable)
}
