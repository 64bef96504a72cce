#!/usr/bin/env bash
# idle.sh [SECONDS [INTERVAL]]: memory and CPU of the idle agent with all four jobs on
# (metrics every 5 s of host, disk, backlog and a group of workers; a cron file;
# health checks every 10 s; exec), beside a program that only links the same
# libraries and, if it is in PATH, amazon-cloudwatch-agent with mem, disk and procstat
# of the same workers every 60 s, which is its default. Local mode, static credentials,
# metrics published each INTERVAL (10s, for a short run; 60s is the product's own, with
# a sixth of the publishes) to the CloudWatch fake on loopback without TLS. The site
# is a service, as on an instance, if control groups may be made; instance metadata
# comes from AWS's mock if ec2-metadata-mock is in PATH. Figures: kB from
# /proc/PID/smaps_rollup, CPU from the scheduler's own account of each thread, in
# nanoseconds, after SETTLE (15) seconds. Ratios travel, absolute times do not: beside
# a busy neighbour each wake-up finds cold caches.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/bench/shared.sh
seconds=${1:-60} interval=${2:-10s}
dir=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done; wait; end_service; rm -rf "$dir"' EXIT
flags=(-trimpath -ldflags '-s -w')
export CGO_ENABLED=0
go build "${flags[@]}" -o "$dir/agent" ./agent
go build "${flags[@]}" -o "$dir/floor" ./packaging/bench/floor
go build -o "$dir/fake" ./packaging/testbed/fakecloudwatch
go build -o "$dir/demo" ./packaging/demo

web=$(port) health=$(port) cw=$(port) metadata=$(port)
mkdir "$dir/app" "$dir/etc" # the agent watches what happens beside its configuration, and one directory up
printf 'PORT=%s\nHEALTH_HOST=www.example.com\n' "$web" >"$dir/app/.env"
printf 'version: 1\ncron:\n  - {name: minutely, schedule: "* * * * *", command: "true"}\n' >"$dir/app/cron.yaml"
cat >"$dir/etc/agent.yaml" <<C
state_dir: $dir/state
health: {listen: '127.0.0.1:$health'}
metrics: {interval: $interval, sample: 5s, send: on}
aws: {region: eu-west-1, cloudwatch_endpoint: 'http://127.0.0.1:$cw'}
C
export AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b
as_service "idle-$$.service" "$dir/site.log" env PORT="$web" WEB_CONCURRENCY=8 "$dir/demo" site
pids+=($!)
"$dir/fake" -listen "127.0.0.1:$cw" >"$dir/fake.log" 2>&1 &
pids+=($!)
"$dir/floor" >/dev/null &
floor=$!
pids+=("$floor")
if mock=$(command -v ec2-metadata-mock); then
  HOME=$dir "$mock" -I -n 127.0.0.1 -p "$metadata" -d 86400 --asg-termination-delay-sec 86400 --rebalance-delay-sec 86400 >"$dir/mock.log" 2>&1 &
  pids+=($!)
  export AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:$metadata
else
  echo "ec2-metadata-mock: absent (not in PATH); no instance metadata"
  export AWS_EC2_METADATA_DISABLED=true
fi
cwagent=
if command -v amazon-cloudwatch-agent >/dev/null; then
  cloudwatch_agent "$dir" 60s 60s "http://127.0.0.1:$cw" "demo site"
  AWS_EC2_METADATA_DISABLED=true amazon-cloudwatch-agent -config "$dir/cwagent.conf" -otelconfig "$dir/cwagent.yaml" -envconfig "$dir/cwagent.json" >"$dir/cwagent.log" 2>&1 &
  cwagent=$!
  pids+=("$cwagent")
else echo "amazon-cloudwatch-agent: absent (not in PATH)"; fi
"$dir/agent" run --app "$dir/app" --socket "$dir/s" --config "$dir/etc/agent.yaml" 2>"$dir/agent.log" &
agent=$!
pids+=("$agent")
for _ in $(seq 100); do "$dir/agent" --socket "$dir/s" status >/dev/null 2>&1 && break; sleep 0.1; done
supervisor=$(pgrep -f "supervise --socket $dir/" | head -1)
sleep "${SETTLE:-15}"

watched=("agent $agent" "supervisor $supervisor" "floor $floor" ${cwagent:+"cloudwatch-agent $cwagent"})
declare -A before
for w in "${watched[@]}"; do before[${w% *}]=$(cpu "${w#* }"); done
began=$EPOCHREALTIME end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
  curl -s -o /dev/null "http://127.0.0.1:$health/agent-health" || :
  sleep 10
done
echo "after $seconds s; kB; CPU in ms a minute"
for w in "${watched[@]}"; do
  pid=${w#* }
  echo "${w% *} $(figure "$pid" Rss) $(figure "$pid" Pss) $(figure "$pid" Anonymous) $(
    awk -v a="${before[${w% *}]}" -v b="$(cpu "$pid")" -v s="$began" -v e="$EPOCHREALTIME" 'BEGIN { printf "%.1f", (b - a) / 1e6 * 60 / (e - s) }')"
done | awk 'BEGIN { printf "%-16s %8s %8s %8s %8s %10s %11s %10s\n", "process", "rss", "pss", "anon", "cpu", "rss/agent", "anon/agent", "cpu/agent" }
  NR == 1 { r = $2; n = $4; c = $5 }
  { printf "%-16s %8d %8d %8d %8.1f %10.2f %11.2f %10.2f\n", $1, $2, $3, $4, $5, $2 / r, $4 / n, $5 / c }'
"$dir/agent" --socket "$dir/s" status | grep metrics || :
