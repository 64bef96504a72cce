#!/usr/bin/env bash
# collectors-scale.sh [N…]: what a collection costs with N unrelated processes on
# the host (10 200 1000 5000), beside its peers in one run.
#
# First the collectors alone, in µs of CPU: hot (again at once), cold (every 250
# ms), and a naive agent that walks /proc with gopsutil at every collection. All
# look at one group of nine processes. Then whole programs with the same task, each
# collecting every two seconds for SECONDS_EACH (16) and sending nothing: memory,
# disks and the processes of one site, a master and eight workers. They are this
# agent, which looks at the backlog and more as well; process-exporter, asked as a
# Prometheus server asks; telegraf and amazon-cloudwatch-agent with mem, disk and
# procstat, if they are in PATH. The site is a service, as on an instance.
#
# While one is measured the others are stopped (SIGSTOP), so that none pays for what
# another does to the caches; TOGETHER=1 leaves all of them running.
#
# telegraf leaves out a collection while the last goes on: with thousands of
# processes its figure is a floor.
#
# CPU is the scheduler's own count of all threads (/proc/PID/task/*/schedstat),
# memory is smaps_rollup in kB. Times depend on the machine: compare within one
# run. Needs: go, curl, /usr/bin/python3; root for the site's service.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/bench/shared.sh
[ $# -gt 0 ] || set -- 10 200 1000 5000
seconds=${SECONDS_EACH:-16} every=2
work=$(mktemp -d)
sleepers=() programs=()
cleanup() {
  [ ${#programs[@]} -eq 0 ] || kill "${programs[@]}" 2>/dev/null || :
  [ ${#programs[@]} -eq 0 ] || kill -CONT "${programs[@]}" 2>/dev/null || :
  [ ${#sleepers[@]} -eq 0 ] || kill "${sleepers[@]}" 2>/dev/null || :
  wait 2>/dev/null || :
  end_service
  rm -rf "$work"
}
trap cleanup EXIT

# have NAME MODULE@VERSION PACKAGE: the path of a peer, from PATH or built once
# into the cache; nothing when it cannot be had.
have() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/beanstalk-agent-testbed/${2##*@}
  command -v "$1" && return
  if [ ! -x "$cache/$1" ]; then
    mkdir -p "$cache" "$work/$1"
    (cd "$work/$1" && printf 'module peer\n' >go.mod && export GOFLAGS=-mod=mod CGO_ENABLED=0 &&
      go get "$2" && go build -o "$cache/$1" "$3") >"$work/$1.log" 2>&1 || return 0
  fi
  echo "$cache/$1"
}

export CGO_ENABLED=0
go build -trimpath -ldflags '-s -w' -o "$work/agent" ./agent
go build -o "$work/demo" ./packaging/demo
(cd collectors && go test -c -o "$work/bench" .)

# bench BENCHMARK COUNT: the median of three runs, in µs of CPU an operation
bench() {
  (cd collectors && "$work/bench" -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime "$2" -test.count 3) |
    awk '{ for (i = 2; i < NF; i++) if ($(i + 1) == "cpu-µs/op") print $i }' | sort -g | sed -n 2p
}

# launch NAME CMD…: starts a program and remembers its process as $NAME_pid
names=()
launch() {
  local name=$1
  shift
  "$@" >"$work/$name.out" 2>&1 &
  programs+=($!)
  names+=("$name")
  declare -g "${name}_pid=$!"
}

web=$(port) health=$(port) pe=$(port)
mkdir "$work/app"
printf 'PORT=%s\n' "$web" >"$work/app/.env"
cat >"$work/agent.yaml" <<C
state_dir: $work/state
health: {listen: '127.0.0.1:$health'}
metrics: {sample: ${every}s, send: 'off'}
C
as_service "collectors-scale-$$.service" "$work/site.out" env PORT="$web" WEB_CONCURRENCY=8 "$work/demo" site
programs+=($!)
launch agent env AWS_EC2_METADATA_DISABLED=true NOTIFY_SOCKET= "$work/agent" run --app "$work/app" --socket "$work/s" --config "$work/agent.yaml"
process_exporter=$(have process-exporter github.com/ncabatoff/process-exporter@v0.8.7 github.com/ncabatoff/process-exporter/cmd/process-exporter)
if [ -n "$process_exporter" ]; then
  printf 'process_names:\n  - name: site\n    cmdline: ["demo site"]\n' >"$work/pe.yml"
  launch process_exporter "$process_exporter" -web.listen-address "127.0.0.1:$pe" -config.path "$work/pe.yml" -threads=false
else echo "process-exporter: absent (not in PATH, and it could not be built)"; fi
if telegraf=$(command -v telegraf); then
  cat >"$work/telegraf.conf" <<C
[agent]
  interval = "${every}s"
  flush_interval = "60s"
[[outputs.discard]]
[[inputs.mem]]
[[inputs.disk]]
[[inputs.procstat]]
  pattern = "demo site"
  pid_finder = "native"
C
  launch telegraf "$telegraf" --config "$work/telegraf.conf"
else echo "telegraf: absent (not in PATH)"; fi
if cwagent=$(command -v amazon-cloudwatch-agent); then
  cloudwatch_agent "$work" ${every}s 1h http://127.0.0.1:1 "demo site"
  launch cloudwatch_agent env AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_EC2_METADATA_DISABLED=true \
    "$cwagent" -config "$work/cwagent.conf" -otelconfig "$work/cwagent.yaml" -envconfig "$work/cwagent.json"
else echo "amazon-cloudwatch-agent: absent (not in PATH)"; fi
for _ in $(seq 200); do "$work/agent" --socket "$work/s" metrics --json 2>/dev/null | grep -q group_memory_pss && break; sleep 0.1; done
sleep 5 # until all have collected

for i in "${!names[@]}"; do
  pid=${names[i]}_pid
  kill -0 "${!pid}" 2>/dev/null && continue
  echo "${names[i]}: does not run: $(tail -1 "$work/${names[i]}.out")"
  unset "names[i]"
done
signal() { # SIGNAL NAME…
  local sig=$1 name pid
  shift
  for name; do pid=${name}_pid && kill "-$sig" "${!pid}"; done
}

# watch NAME: appends "N name ms rss anon": what it costs a collection from now on
watch() {
  local name=$1 pid=${1}_pid before began asked=0 k end
  before=$(cpu "${!pid}") began=$EPOCHREALTIME end=$((SECONDS + seconds))
  while [ $SECONDS -lt $end ]; do
    case $name in process_exporter) curl -s -m 60 -o /dev/null "http://127.0.0.1:$pe/metrics" || : ;; esac
    asked=$((asked + 1))
    sleep $every
  done
  k=$(awk -v a="$began" -v b="$EPOCHREALTIME" -v e="$every" 'BEGIN { print (b - a) / e }')
  case $name in process_exporter) k=$asked ;; esac
  awk -v n="$n" -v name="$name" -v a="$before" -v b="$(cpu "${!pid}")" -v k="$k" -v r="$(figure "${!pid}" Rss)" -v m="$(figure "${!pid}" Anonymous)" \
    'BEGIN { printf "%d %s %.3f %d %d\n", n, name, (b - a) / 1e6 / k, r, m }' >>"$work/programs"
}

printf '\n%9s %7s %7s %7s %10s %10s   collectors alone, µs of CPU a collection\n' unrelated hot cold naive naive/hot naive/cold
[ -n "${TOGETHER:-}" ] || signal STOP "${names[@]}"
for n in "$@"; do
  while [ ${#sleepers[@]} -lt "$n" ]; do
    sleep 36000 &
    sleepers+=($!)
  done
  hot=$(bench Tick 300x) cold=$(bench ColdTick 20x) naive=$(bench NaiveWalk 5x)
  echo "$n $hot $cold $naive" >>"$work/rows"
  awk -v n="$n" -v h="$hot" -v c="$cold" -v w="$naive" \
    'BEGIN { printf "%9d %7.0f %7.0f %7.0f %10.1f %10.1f\n", n, h, c, w, w / h, w / c }'
  for name in "${names[@]}"; do
    if [ -n "${TOGETHER:-}" ]; then
      watch "$name" &
      watches+=($!)
      continue
    fi
    signal CONT "$name"
    sleep $every # what was due while it was stopped
    watch "$name"
    signal STOP "$name"
  done
  [ -z "${TOGETHER:-}" ] || wait "${watches[@]}"
  watches=()
done
awk 'NR == 1 { n = $1; h = $2; c = $3; w = $4 }
     END { if (NR > 1) printf "growth from %d to %d: hot %.2f, cold %.2f, naive %.2f times; slope: cold %.2f, naive %.0f µs a process\n",
       n, $1, $2 / h, $3 / c, $4 / w, ($3 - c) / ($1 - n), ($4 - w) / ($1 - n) }' "$work/rows"

printf '\n%9s %-17s %9s %8s %8s %9s %9s %9s   programs, ms of CPU a collection, kB\n' unrelated program cpu rss anon cpu/agent rss/agent anon/agent
sort -s -k1,1n -k2,2 "$work/programs" | awk '
     { key = $1 " " $2; cpu[key] = $3; rss[key] = $4; anon[key] = $5; keys[++k] = key
       if (!($2 in first)) { first[$2] = $3; from[$2] = $1; order[++m] = $2 }
       last[$2] = $3; to[$2] = $1 }
     END { for (i = 1; i <= k; i++) { split(keys[i], f, " "); a = f[1] " agent"
         printf "%9d %-17s %9.2f %8d %8d %9.1f %9.1f %9.1f\n", f[1], f[2], cpu[keys[i]], rss[keys[i]], anon[keys[i]],
           cpu[keys[i]] / cpu[a], rss[keys[i]] / rss[a], anon[keys[i]] / anon[a] }
       for (i = 1; i <= m; i++) { p = order[i]
         if (to[p] > from[p]) printf "%s: %.2f times from %d to %d, %.1f µs a process\n", p, last[p] / first[p], from[p], to[p], 1000 * (last[p] - first[p]) / (to[p] - from[p]) } }'
