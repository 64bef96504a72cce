#!/usr/bin/env bash
# idle.sh [SECONDS [INTERVAL]]: memory and CPU of the idle agent with all four jobs on
# (metrics every 5 s of host, disk, backlog and a group of workers; a cron file;
# health checks every 10 s; exec), beside a program that only links the same
# libraries. Local mode, static credentials, metrics published each
# INTERVAL (10s, for a short run; 60s is the product's own, with a sixth of the publishes)
# to the CloudWatch fake on loopback without TLS. Figures: kB from /proc/PID/smaps_rollup,
# CPU from the scheduler's own account of each thread, in nanoseconds (a clock tick
# is 10 ms, half of what is measured). Ratios travel, absolute times do not.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60} interval=${2:-10s}
dir=$(mktemp -d)
pids=()
trap 'for p in "${pids[@]}"; do kill "$p" 2>/dev/null || :; done; wait; rm -rf "$dir"' EXIT
flags=(-trimpath -ldflags '-s -w')
export CGO_ENABLED=0
go build "${flags[@]}" -o "$dir/agent" ./agent
go build "${flags[@]}" -o "$dir/floor" ./packaging/bench/floor
go build -o "$dir/fake" ./packaging/testbed/fakecloudwatch
go build -o "$dir/demo" ./packaging/demo

port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
web=$(port) health=$(port) cw=$(port)
mkdir "$dir/app"
printf 'PORT=%s\nHEALTH_HOST=www.example.com\n' "$web" >"$dir/app/.env"
printf 'version: 1\ncron:\n  - {name: minutely, schedule: "* * * * *", command: "true"}\n' >"$dir/app/cron.yaml"
cat >"$dir/agent.yaml" <<C
state_dir: $dir/state
health: {listen: '127.0.0.1:$health'}
metrics: {interval: $interval, sample: 5s, send: on}
aws: {region: eu-west-1, cloudwatch_endpoint: 'http://127.0.0.1:$cw'}
C
PORT=$web WEB_CONCURRENCY=8 "$dir/demo" site >"$dir/site.log" 2>&1 & pids+=($!)
"$dir/fake" -listen "127.0.0.1:$cw" >"$dir/fake.log" 2>&1 & pids+=($!)
"$dir/floor" >/dev/null & floor=$!; pids+=("$floor")
AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b AWS_EC2_METADATA_DISABLED=true \
  "$dir/agent" run --app "$dir/app" --socket "$dir/s" --config "$dir/agent.yaml" 2>"$dir/agent.log" & agent=$!; pids+=("$agent")
for _ in $(seq 100); do "$dir/agent" --socket "$dir/s" status >/dev/null 2>&1 && break; sleep 0.1; done
supervisor=$(pgrep -f "supervise --socket $dir/" | head -1)

ran() { cat /proc/"$1"/task/*/schedstat | awk '{ns += $1} END {print ns}'; }
before=$(ran "$agent"); sbefore=$(ran "$supervisor")
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do curl -s -o /dev/null "http://127.0.0.1:$health/health" || :; sleep 10; done
ms() { awk -v a="$1" -v b="$2" -v s="$seconds" 'BEGIN {printf "%.1f", (b - a) / 1e6 * 60 / s}'; }
figure() { awk -v k="$2:" '$1 == k {print $2}' "/proc/$1/smaps_rollup"; }
echo "after $seconds s; kB; CPU in ms a minute"
printf '%-12s %8s %8s %8s %8s\n' process rss pss anon cpu
for p in "agent $agent $(ms "$before" "$(ran "$agent")")" "supervisor $supervisor $(ms "$sbefore" "$(ran "$supervisor")")" "floor $floor 0"; do
  set -- $p
  printf '%-12s %8s %8s %8s %8s\n' "$1" "$(figure "$2" Rss)" "$(figure "$2" Pss)" "$(figure "$2" Anonymous)" "$3"
done
awk -v a="$(figure "$agent" Rss)" -v f="$(figure "$floor" Rss)" -v aa="$(figure "$agent" Anonymous)" -v fa="$(figure "$floor" Anonymous)" \
  'BEGIN {printf "agent / floor: rss %.2f, anonymous %.2f\n", a / f, aa / fa}'
"$dir/agent" --socket "$dir/s" status | grep metrics || :
