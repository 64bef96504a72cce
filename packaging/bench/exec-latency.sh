#!/bin/bash
# exec-latency.sh [-n RUNS] [-mb MEGABYTES] [-sessions N]: what `agent exec` costs,
# beside sudo -u and a bare fork and exec. Builds the agent as it is shipped,
# starts it in a directory of its own, removes it all. Needs root for the
# comparison with sudo to be one: both then start a command as another user.
set -eu
cd "$(dirname "$0")/../.."
dir=$(mktemp -d /tmp/exec-latency.XXXXXX)
agent=
cleanup() {
    [[ -z $agent ]] || { kill "$agent" && wait "$agent"; } 2>/dev/null || :
    rm -rf "$dir"
}
trap cleanup EXIT
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
agent=$!
for _ in $(seq 100); do
    "$dir/agent" exec -- true 2>/dev/null && break
    sleep 0.1
done
"$dir/agent" exec -- true || { cat "$dir/log" >&2; exit 1; }
# The supervisor listens beside the agent's socket.
supervisor=$(pgrep -f -- "supervise .*$dir/.*supervisor.sock" | head -1)
"$dir/bench" -agent "$dir/agent" -supervisor "${supervisor:-0}" "$@"
sleep 3
grep -H -E '^(RssAnon|VmRSS|Threads)' "/proc/$supervisor/status" | sed "s|/proc/$supervisor/status:|the idle supervisor's |"
