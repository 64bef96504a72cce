package collectors

import "io/fs"

// HostConfig says where a Host reads and how it counts. Its zero value is right
// for a live host.
//
// A Host's samples:
//
//	mem_used_percent       Percent  100 − mem_available_percent
//	mem_available_percent  Percent  the kernel's MemAvailable, of the total
//	mem_available          Bytes
//	mem_total              Bytes
//	swap_used_percent      Percent  0 on a host without swap
//	swap_in, swap_out      Bytes/Second  none on a host without swap
//	load_1m                None
//	load_per_cpu           None     load_1m by the number of CPUs
//	pressure_KIND          Percent  time in which tasks waited, over the interval
//
// KIND is memory_some, memory_full, cpu_some, io_some or io_full: some tasks
// waited, or all of them at once. A kernel without pressure figures gives none.
//
// mem_used_percent differs from the CloudWatch agent's. That one, up to its
// version of 2025 at least, is (total − free − buffers − cached) of the total,
// as gopsutil v3 computes it. It takes tmpfs and shared memory, which are in
// the cache and cannot be dropped, for free, and knows nothing of the reserve
// that the kernel keeps: on the way to an OOM kill it can stay far below 100.
// gopsutil (from 4.25.8) and with it telegraf (from 1.36) have left it for
// MemAvailable. So do we; the figure is usually some points higher.
// CloudWatchAgentFormula brings the old one back, for alarms that were tuned to it.
type HostConfig struct {
	Proc fs.FS // optional: what /proc is; Linux only

	// CloudWatchAgentFormula makes mem_used_percent what the CloudWatch agent
	// sends under that name.
	CloudWatchAgentFormula bool // optional
}

// memorySamples are the samples that every system has.
func memorySamples(out []Sample, m *meminfo, cloudWatchAgent bool) []Sample {
	total := float64(m.total)
	available := 100 * float64(m.available) / total
	used := 100 - available
	if cloudWatchAgent {
		used = 100 * float64(m.usedLikeCloudWatchAgent()) / total
	}
	var swap float64
	if m.swapTotal > 0 {
		swap = 100 * (1 - float64(min(m.swapFree, m.swapTotal))/float64(m.swapTotal))
	}
	return append(out,
		Sample{"mem_used_percent", Percent, used, nil},
		Sample{"mem_available_percent", Percent, available, nil},
		Sample{"mem_available", Bytes, float64(m.available), nil},
		Sample{"mem_total", Bytes, total, nil},
		Sample{"swap_used_percent", Percent, swap, nil})
}
