#!/bin/bash
# cron-peers.sh [-s SECONDS] [-n JOBS]: the agent's cron beside those of supercronic,
# ofelia and, as root, Debian's cron, as many of them as PATH has (or the variables
# SUPERCRONIC and OFELIA name): lateness past the second, JOBS due in one second, and
# memory idle and with ten thousand entries. Builds the agent as it is shipped, runs one
# after the other in a directory of its own, removes it all. CPU is the daemon's own (for
# the agent, agent and supervisor); "in all" is with its children, the jobs, which are
# the same for each: Debian's cron does its work in forks, so only that compares. It
# knows no seconds. Read the ratios: the figures are the machine's.
#
# The peers: go install github.com/aptible/supercronic@latest; apt-get install cron;
# ofelia from a clone of github.com/mcuadros/ofelia at its newest tag (v0.4.0-beta.1),
# go build there: it has no release that go install takes, and between tags it does not
# always build. ofelia asks a Docker daemon who it is before it starts anything, local
# jobs too: a web server with one file answers that here.
set -eu
seconds=30 jobs=1000
while getopts s:n: o; do case $o in s) seconds=$OPTARG ;; n) jobs=$OPTARG ;; *) exit 2 ;; esac; done
supercronic=${SUPERCRONIC:-$(command -v supercronic || :)}
ofelia=${OFELIA:-$(command -v ofelia || :)}
export TZ=UTC
cd "$(dirname "$0")/../.."
dir=$(mktemp -d /tmp/cron-peers.XXXXXX)
daemon= docker=
halt() {
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || :
    daemon=
}
trap 'halt; [[ -z $docker ]] || kill "$docker"; rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/agent-bin" ./agent
mkdir "$dir/app" "$dir/docker"
if [[ -n $ofelia ]]; then
    echo '{}' >"$dir/docker/info"
    python3 -u -m http.server --bind 127.0.0.1 --directory "$dir/docker" 0 >"$dir/docker/log" 2>&1 &
    docker=$!
    until port=$(grep -om1 'port [0-9]*' "$dir/docker/log"); do sleep 0.1; done
    export DOCKER_HOST=tcp://127.0.0.1:${port#port }
fi

entries=0
# entry NAME SCHEDULE COMMAND: a line of that scheduler's table for a shell's command
# (without quotes); where the schedule has seconds, the agent's is a cron.yaml.
entry() {
    local name=$1 schedule=$2 command=$3
    case $name in
    agent | cron) echo "$schedule ${command//\%/\\%}" ;; # as crontab(5) has it
    supercronic) echo "$schedule $command" ;;
    ofelia) printf '[job-local "%s"]\nschedule = %s\ncommand = sh -c \\"%s\\"\n' "$((entries += 1))" "$schedule" "$command" ;;
    esac
}
# start NAME: runs that scheduler over $dir/app/crontab (or cron.yaml).
start() {
    if [[ $1 = agent ]]; then
        rm -rf "$dir/state"
        cat >"$dir/agent.yaml" <<END
app: {dir: $dir/app}
socket: $dir/agent.sock
state_dir: $dir/state
metrics: {send: off}
health: {listen: '127.0.0.1:0'}
END
        "$dir/agent-bin" run --config "$dir/agent.yaml" >"$dir/log" 2>&1 &
    elif [[ $1 = cron ]]; then # in a mount namespace, where it finds no other table
        unshare --mount --propagation private sh -c '
            mount -t tmpfs none /etc/cron.d; mount --bind /dev/null /etc/crontab
            mount -t tmpfs none /run; mount -t tmpfs none /var/spool/cron/crontabs
            install -m 600 "$0" /var/spool/cron/crontabs/root && exec cron -f -L 0' "$dir/app/crontab" >"$dir/log" 2>&1 &
    elif [[ $1 = ofelia ]]; then
        "$ofelia" daemon --config="$dir/app/crontab" >"$dir/log" 2>&1 &
    else
        "$supercronic" -quiet -overlapping "$dir/app/crontab" >"$dir/log" 2>&1 &
    fi
    daemon=$!
}
# pids: the daemon, and the agent's supervisor.
pids() { echo "$daemon" $(pgrep -f -- "supervise .*$dir/" || :); }
# cpu: milliseconds that they have used, and with their children.
cpu() { for p in $(pids); do awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) * 1000 / hz, ($14 + $15 + $16 + $17) * 1000 / hz}' "/proc/$p/stat"; done | awk '{n += $1; m += $2} END {print n, m}'; }
# spent BEFORE RUNS: CPU since BEFORE, for each of so many.
spent() { echo "$1 $(cpu) $2" | awk '{n = $5 > 0 ? $5 : 1; printf "%.2f ms CPU a run, %.2f in all", ($3 - $1) / n, ($4 - $2) / n}'; }
memory() { for p in $(pids); do cat "/proc/$p/status"; done | awk '/^(VmRSS|RssAnon)/ {n[$1] += $2} END {print "RSS", n["VmRSS:"], "kB, anonymous", n["RssAnon:"], "kB"}'; }
# report: lateness in milliseconds of the nanoseconds past a second, one a line.
report() { sed 's/^0*\(.\)/\1/' | sort -n | awk '{a[NR] = $1 / 1e6} END {printf "%d runs, median %.2f ms, p99 %.2f ms, worst %.2f ms", NR, a[int((NR + 1) / 2)], a[int((NR * 99 + 99) / 100)], a[NR]}'; }

peers=(agent ${supercronic:+supercronic} ${ofelia:+ofelia})
if [[ $(id -u) = 0 ]] && command -v cron >/dev/null; then peers+=(cron); fi
for name in "${peers[@]}"; do
    rm -f "$dir"/app/*
    entry "$name" "0 0 1 1 *" true >"$dir/app/crontab"
    start "$name"
    sleep 3
    echo "$name: idle: $(memory)"
    halt

    rm -f "$dir"/app/*
    if [[ $name = agent ]]; then
        printf 'cron:\n- {name: tick, schedule: "* * * * * *", seconds: true, overlap: allow, command: "date +%%N >>%s/late"}\n' "$dir" >"$dir/app/cron.yaml"
    else
        every='* * * * * *'
        [[ $name != supercronic ]] || every="* $every" # the last is for years
        entry "$name" "$every" "date +%N >>$dir/late" >"$dir/app/crontab"
    fi
    if [[ $name != cron ]]; then
        : >"$dir/late"
        start "$name"
        sleep 3
        : >"$dir/late"
        before=$(cpu)
        sleep "$seconds"
        n=$(wc -l <"$dir/late")
        echo "$name: each second: $(report <"$dir/late"); $(spent "$before" "$n")"
        halt
    fi

    rm -f "$dir"/app/*
    : >"$dir/ends"
    (($(date +%-S) < 40)) || sleep 25
    due=$(($(date +%s) / 60 * 60 + 60))
    at=$(date -u -d "@$due" '+%-M %-H')
    for ((i = 0; i < jobs; i++)); do entry "$name" "$at * * *" "date +%s%N >>$dir/ends"; done >"$dir/app/crontab"
    start "$name"
    sleep $((due - $(date +%s) - 1))
    before=$(cpu)
    for _ in $(seq 120); do
        sleep 0.5
        (($(wc -l <"$dir/ends") < jobs)) || break
    done
    echo "$name: $jobs in one second: $(wc -l <"$dir/ends") began, $(sort -n "$dir/ends" | awk -v d="$due" 'NR == 1 {a = $1} END {printf "the first %.3f s, the last %.3f s", a / 1e9 - d, $1 / 1e9 - d}') late; $(spent "$before" "$jobs"); $(memory)"
    halt

    for ((i = 0; i < 10000; i++)); do entry "$name" "$((i % 60)) $((i % 24)) 1 1 *" "true $i"; done >"$dir/app/crontab"
    start "$name"
    sleep 5
    echo "$name: 10,000 entries: $(memory)"
    halt
done
