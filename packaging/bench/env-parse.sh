#!/bin/sh
# env-parse: reads a 4 KiB environment as systemd does and as godotenv does, and
# prints how they compare: time, bytes and allocations. Beside it, what a start
# of a run pays to know its environment when no file has changed.
set -eu
cd "$(dirname "$0")/../.."
go test -run '^$' -bench 'ParseSystemd4K|Godotenv4K|ResolveUnchanged|Profile' -benchtime 1s -count 3 ./agent/internal/appenv |
    awk '
        /^Benchmark/ {
            name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
            for (i = 3; i < NF; i += 2) {
                if ($(i + 1) == "ns/op" && (!(name in ns) || $i < ns[name])) ns[name] = $i
                if ($(i + 1) == "B/op") bytes[name] = $i
                if ($(i + 1) == "allocs/op") allocs[name] = $i
            }
        }
        END {
            for (name in ns) printf "%-18s %8.1f us  %6d B  %4d allocations (best of 3)\n", name, ns[name] / 1000, bytes[name], allocs[name]
            printf "ours / godotenv: time %.2f, bytes %.2f, allocations %.2f\n", ns["ParseSystemd4K"] / ns["Godotenv4K"],
                bytes["ParseSystemd4K"] / bytes["Godotenv4K"], allocs["ParseSystemd4K"] / allocs["Godotenv4K"]
        }'
