#!/bin/sh
# Tells the agent that the application or its properties changed, and lets cron
# runs start again. Without this the agent notices by itself, a little later.
# The same file serves hooks/postdeploy and confighooks/postdeploy: a change of
# properties alone runs only the second. It must never fail or delay a deployment:
# it has time limits, always exits 0, and drops the application's variables, which
# a hook inherits.
agent=/opt/agent/bin/agent
[ -x "$agent" ] || exit 0
for verb in reload release; do
    env -i HOME=/root PATH=/usr/bin:/bin timeout -k 2 10 "$agent" $verb </dev/null 2>&1 ||
        echo "agent: $verb did not succeed; the deployment goes on"
done
# nginx reads the fallback of the health check when it starts, perhaps before the
# agent wrote a new HEALTH_HOST or port to it.
if [ -f /run/nginx.pid ] && [ /var/lib/agent/nginx-health.conf -nt /run/nginx.pid ]; then
    env -i PATH=/usr/bin:/bin timeout -k 2 10 systemctl reload nginx </dev/null 2>&1 ||
        echo "agent: nginx was not reloaded; the deployment goes on"
fi
exit 0
