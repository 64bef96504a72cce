#!/bin/bash
# health-latency.sh [SECONDS]: what a health check through the agent costs, beside nginx asking the
# application itself with `proxy_set_header Host` (the best workaround made by hand).
#
# Starts a Django site under gunicorn, nginx with the real snippet, and the real agent, all on free
# ports of 127.0.0.1 in a directory of its own; asks with wrk at 1 and at 20 connections; prints
# latencies, their ratios, and how many requests reached the application.
# Needs: nginx-light python3-django gunicorn wrk curl (Debian), go.
set -eu
seconds=${1:-4}
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
pids=()
stop() {
    kill "${pids[@]}" 2>/dev/null || :
    wait 2>/dev/null || :
    rm -rf "$dir"
}
trap stop EXIT
chmod 755 "$dir"

ports() { /usr/bin/python3 -c '
import socket
s = [socket.socket() for _ in range(3)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])'; }
read -r app web agent < <(ports)

go build -o "$dir/agent" "$root/agent"
(cd "$root/agent/internal/health/testdata/django" && exec env PYTHONDONTWRITEBYTECODE=1 \
    /usr/bin/python3 /usr/bin/gunicorn --bind "127.0.0.1:$app" --workers 4 --threads 4 \
    --access-logfile "$dir/app.log" app:application >"$dir/gunicorn.out" 2>&1) &
pids+=($!)

mkdir -p "$dir/conf.d/elasticbeanstalk" "$dir/application"
sed "s/@PORT@/$web/" "$root/agent/internal/health/testdata/nginx/nginx.conf" >"$dir/nginx.conf"
sed "s/@APP@/127.0.0.1:$app/" "$root/agent/internal/health/testdata/nginx/conf.d/elasticbeanstalk/00_application.conf" \
    >"$dir/conf.d/elasticbeanstalk/00_application.conf"
at=127.0.0.1:$agent
[ "$(id -u)" != 0 ] || at=unix:$dir/health.sock # which only root's agent makes
sed "s|unix:/run/agent/health.sock|$at|; s/127.0.0.1:8000/127.0.0.1:$app/" "$root/packaging/nginx/agent-health.conf" \
    >"$dir/conf.d/elasticbeanstalk/agent-health.conf"
cat >"$dir/conf.d/elasticbeanstalk/by-hand.conf" <<EOF
location = /nginx-alone { access_log off; return 200 "ok"; }
location = /by-hand {
    access_log off;
    rewrite ^ /health/ break;
    proxy_pass http://127.0.0.1:$app;
    proxy_set_header Host www.example.com;
    proxy_set_header X-Forwarded-Proto https;
}
EOF
nginx -p "$dir" -c nginx.conf -e error.log -g "user www-data;" &
pids+=($!)

cat >"$dir/agent.yaml" <<EOF
socket: $dir/agent.sock
state_dir: $dir/state
metrics: {send: off}
health: {listen: '127.0.0.1:$agent', target: 'http://127.0.0.1:$app/health/', host: www.example.com}
EOF
"$dir/agent" run --config "$dir/agent.yaml" --app "$dir/application" >"$dir/agent.out" 2>&1 &
daemon=$!
pids+=($daemon)

for path in by-hand agent-health; do
    for _ in $(seq 100); do
        [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$web/$path")" = 200 ] && break
        sleep 0.1
    done || { echo "error: /$path is not answered" >&2; cat "$dir"/*.out >&2; exit 1; }
done

rss() { awk '/^RssAnon/ { printf "%.1f MB", $2 / 1024 }' "/proc/$daemon/status"; }
ms() { awk '{ v = $1; if (v ~ /us$/) f = 0.001; else if (v ~ /ms$/) f = 1; else f = 1000; sub(/[a-z]+$/, "", v); printf "%.3f", v * f }' <<<"$1"; }

# measure PATH CONNECTIONS: sets p50, p99 (ms), rate and reached (requests in the application's log)
measure() {
    local out before
    before=$(wc -l <"$dir/app.log")
    out=$(wrk -t1 -c"$2" -d"${seconds}s" --latency -H 'Host: 10.0.0.5' -H 'User-Agent: ELB-HealthChecker/2.0' "http://127.0.0.1:$web/$1")
    p50=$(ms "$(awk '$1 == "50%" { print $2 }' <<<"$out")")
    p99=$(ms "$(awk '$1 == "99%" { print $2 }' <<<"$out")")
    rate=$(awk '/Requests\/sec/ { print $2 }' <<<"$out")
    reached=$(($(wc -l <"$dir/app.log") - before))
    if grep -q 'Non-2xx' <<<"$out"; then echo "error: /$1: $(grep Non-2xx <<<"$out")" >&2; exit 1; fi
}

anon=$(rss)
for connections in 1 20; do
    echo "$connections at a time, $seconds s each:"
    declare -A m50=() m99=()
    for path in nginx-alone by-hand agent-health; do
        measure "$path" "$connections"
        m50[$path]=$p50 m99[$path]=$p99
        printf '  %-12s p50 %7s ms   p99 %7s ms   %10s checks/s   %8s requests at the application\n' "$path" "$p50" "$p99" "$rate" "$reached"
    done
    awk -v a="${m50[agent-health]}" -v b="${m50[by-hand]}" -v c="${m99[agent-health]}" -v d="${m99[by-hand]}" -v e="${m99[nginx-alone]}" \
        'BEGIN { printf "  through the agent / by hand: p50 %.2f, p99 %.2f; added to nginx alone at p99: %.3f ms\n", a / b, c / d, c - e }'
done
echo "agent's anonymous memory: $anon before, $(rss) after"
