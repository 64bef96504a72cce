# shared.sh: what several benchmarks here need; to be sourced.

port() { /usr/bin/python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }

# cpu PID: nanoseconds its threads have run, by the scheduler's own account: a clock
# tick is 10 ms, half of what is measured.
cpu() { cat "/proc/$1"/task/*/schedstat | awk '{ n += $1 } END { printf "%.0f\n", n }'; }

# figure PID KEY: a line of its smaps_rollup, in kB
figure() { awk -v k="$2:" '$1 == k { print $2 }' "/proc/$1/smaps_rollup"; }

# as_service NAME LOG CMD…: starts CMD in control groups of that name, as the web
# process of an instance is in its service's, if we may make them; end_service, once
# it has ended, removes them.
groups=()
as_service() {
  local tree log=$2
  for tree in /sys/fs/cgroup /sys/fs/cgroup/{systemd,memory,cpuacct,"cpu,cpuacct"}; do
    if [ -w "$tree/cgroup.procs" ] && [ ! -L "$tree" ] && mkdir -p "$tree/$1"; then groups+=("$tree/$1"); fi
  done
  [ ${#groups[@]} -gt 0 ] || echo "the site is no service here: control groups need root" >&2
  shift 2
  (
    for tree in "${groups[@]}"; do echo $BASHPID >"$tree/cgroup.procs"; done
    exec "$@" >"$log" 2>&1
  ) &
}
end_service() {
  local tree
  for tree in "${groups[@]}"; do
    for _ in $(seq 100); do
      rmdir "$tree" 2>/dev/null && break
      sleep 0.05
    done
  done
}

# cloudwatch_agent DIR INTERVAL FLUSH ENDPOINT PATTERN: writes, into DIR, the
# configuration with which the CloudWatch agent collects mem, disk and procstat
# of the processes that match. Its own start script would translate it from JSON.
cloudwatch_agent() {
  cat >"$1/cwagent.conf" <<C
[agent]
  interval = "$2"
  flush_interval = "1s"
  logfile = ""
[inputs]
  [[inputs.mem]]
    fieldpass = ["used_percent"]
  [[inputs.disk]]
    fieldpass = ["used_percent"]
    tagexclude = ["mode"]
  [[inputs.procstat]]
    fieldpass = ["cpu_usage", "memory_rss", "pid_count"]
    pattern = "$5"
    pid_finder = "native"
[outputs]
  [[outputs.cloudwatch]]
C
  cat >"$1/cwagent.yaml" <<C
exporters:
  awscloudwatch: {endpoint_override: '$4', force_flush_interval: $3, max_datums_per_call: 1000, max_values_per_datum: 150, namespace: CWAgent, region: eu-west-1}
receivers:
  telegraf_mem: {collection_interval: $2, initial_delay: 1s}
  telegraf_disk: {collection_interval: $2, initial_delay: 1s}
  telegraf_procstat: {collection_interval: $2, initial_delay: 1s}
service:
  pipelines:
    metrics/host: {receivers: [telegraf_mem, telegraf_disk, telegraf_procstat], exporters: [awscloudwatch]}
  telemetry:
    logs: {level: info, output_paths: [stderr], encoding: console}
    metrics: {level: None}
C
  echo '{}' >"$1/cwagent.json"
}
