package metrics

// Names are the metrics that are sent, and that metrics.send_only can name: those of packaging/docs/metrics.md but the
// publisher's own, which say that figures are late or lost.
var Names = []string{
	"mem_used_percent", "mem_available_percent", "swap_used_percent", "swap_in", "swap_out",
	"disk_used_percent", "disk_inodes_used_percent", "load_per_cpu", "pressure_memory_some",
	"pressure_cpu_some", "pressure_io_some", "oom_kills", "listen_backlog", "listen_connections",
	"group_processes", "group_memory_pss", "group_memory_largest", "group_memory_growth", "group_cpu",
	"worker_headroom", "health_unhealthy", "health_latency", "cron_runs", "cron_failed",
	"cron_missed", "cron_overlapped", "cron_overdue", "agent_memory_anon", "exec_runs",
	"collectors_failed",
}
