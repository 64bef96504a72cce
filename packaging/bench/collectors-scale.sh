#!/bin/bash
# collectors-scale.sh [N…]: what one collection costs with N unrelated processes
# on the host (10 200 1000), in µs of CPU, beside an agent that walks /proc with
# gopsutil at every collection. Both look at the same group of nine processes.
#
# Ours: host, disks, OOM, the agent itself, backlog, group: hot (again at once)
# and cold (every 250 ms). Times depend on the machine; compare within one run.
# Needs: go, /usr/bin/python3.
set -eu
cd "$(dirname "$0")/../../collectors"
[ $# -gt 0 ] || set -- 10 200 1000
work=$(mktemp -d)
sleepers=()
cleanup() {
  [ ${#sleepers[@]} -eq 0 ] || kill "${sleepers[@]}" 2>/dev/null || :
  wait 2>/dev/null || :
  rm -rf "$work"
}
trap cleanup EXIT
go test -c -o "$work/bench" .

# cpu BENCHMARK COUNT: the median of three runs, in µs of CPU an operation
cpu() {
  "$work/bench" -test.run '^$' -test.bench "^Benchmark$1\$" -test.benchtime "$2" -test.count 3 |
    awk '{ for (i = 2; i < NF; i++) if ($(i + 1) == "cpu-µs/op") print $i }' | sort -g | sed -n 2p
}

printf '%9s %9s %9s %9s %12s %12s\n' unrelated hot cold naive naive/hot naive/cold
for n in "$@"; do
  while [ ${#sleepers[@]} -lt "$n" ]; do
    sleep 3600 &
    sleepers+=($!)
  done
  hot=$(cpu Tick 300x) cold=$(cpu ColdTick 20x) naive=$(cpu NaiveWalk 10x)
  echo "$n $hot $cold $naive" >>"$work/rows"
  awk -v n="$n" -v h="$hot" -v c="$cold" -v w="$naive" \
    'BEGIN { printf "%9d %9.0f %9.0f %9.0f %12.1f %12.1f\n", n, h, c, w, w / h, w / c }'
done
awk 'NR == 1 { n = $1; h = $2; c = $3; w = $4 }
     END { if (NR > 1) printf "growth from %d to %d: hot %.2f, cold %.2f, naive %.2f times; slope: cold %.2f, naive %.0f µs a process\n",
       n, $1, $2 / h, $3 / c, $4 / w, ($3 - c) / ($1 - n), ($4 - w) / ($1 - n) }' "$work/rows"
