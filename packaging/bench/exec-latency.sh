#!/bin/bash
# exec-latency.sh [-n RUNS] [-mb MEGABYTES] [-sessions N] [-history N]: what `agent
# exec` costs, beside a bare fork and exec and those of its peers that are here: sudo
# -u, ssh to localhost (openssh-server, on a port and with keys of its own), pebble
# exec (PEBBLE=FILE, else the one in PATH). Builds the agent as it is shipped,
# starts it in a directory of its own, removes it all. Needs root for the comparison
# with sudo to be one: both then start a command as another user. Read the ratios.
set -eu
cd "$(dirname "$0")/../.."
dir=$(mktemp -d /tmp/exec-latency.XXXXXX)
pids=()
cleanup() {
    for p in "${pids[@]}"; do { kill "$p" && wait "$p"; } 2>/dev/null || :; done
    rm -rf "$dir"
}
trap cleanup EXIT
peers=()
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/agent" ./agent
go build -o "$dir/bench" ./packaging/bench/exec-latency
mkdir -m 755 "$dir/app"
chmod 755 "$dir"
[[ $(id -u) -ne 0 ]] || chown nobody "$dir/app"
cat >"$dir/agent.yaml" <<END
app: {dir: $dir/app}
socket: $dir/agent.sock
state_dir: $dir/state
metrics: {send: off}
health: {listen: '127.0.0.1:0'}
END
export AGENT_SOCKET=$dir/agent.sock
"$dir/agent" run --config "$dir/agent.yaml" >"$dir/log" 2>&1 &
pids+=($!)

# until_works COMMAND...: a daemon that was just started answers it.
until_works() {
    for _ in $(seq 100); do ! "$@" true 2>/dev/null || return 0; sleep 0.1; done
    "$@" true || { cat "$dir"/*log >&2; exit 1; }
}
until_works "$dir/agent" exec --

[[ $(id -u) -ne 0 ]] || ! command -v sudo >/dev/null || peers+=(-peer "sudo -n -u nobody")

if [[ $(id -u) -eq 0 && -x /usr/sbin/sshd ]]; then
    mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
    cp "$dir/key.pub" "$dir/authorized"
    port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
    /usr/sbin/sshd -D -f /dev/null -h "$dir/key" -p "$port" -o ListenAddress=127.0.0.1 -o PidFile=none \
        -o AuthorizedKeysFile="$dir/authorized" -o StrictModes=no -o PermitRootLogin=yes -o UsePAM=no -E "$dir/ssh.log" &
    pids+=($!)
    ssh=(ssh -F /dev/null -i "$dir/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p "$port" 127.0.0.1)
    until_works "${ssh[@]}"
    peers+=(-peer "${ssh[*]}")
fi

pebble=${PEBBLE:-$(command -v pebble || :)}
if [[ $pebble ]]; then
    export PEBBLE=$dir/pebble
    mkdir -p "$PEBBLE/layers"
    "$pebble" run >"$dir/pebble.log" 2>&1 &
    pids+=($!)
    until_works "$pebble" exec --
    peers+=(-peer "$pebble exec --")
fi

# The supervisor listens beside the agent's socket.
supervisor=$(pgrep -f -- "supervise .*$dir/.*supervisor.sock" | head -1)
"$dir/bench" -agent "$dir/agent" -supervisor "${supervisor:-0}" "${peers[@]}" "$@"
sleep 3
grep -H -E '^(RssAnon|VmRSS|Threads)' "/proc/$supervisor/status" | sed "s|/proc/$supervisor/status:|the idle supervisor's |"
awk '$1 == "Pss:" {print "the idle supervisor'"'"'s " $0}' "/proc/$supervisor/smaps_rollup"
