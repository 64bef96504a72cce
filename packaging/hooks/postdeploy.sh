#!/bin/sh
# Tells the agent that the application or its properties changed, and lets cron
# runs start again. Without this it notices by itself, a little later.
# The same file serves hooks/postdeploy and confighooks/postdeploy: a change of
# properties alone runs only the second. It must never fail a deployment or make
# one wait: time limits, exit 0 whatever happens, and none of the application's
# variables (they are all in a hook's environment).
agent=/opt/agent/bin/agent
[ -x "$agent" ] || exit 0
for verb in reload release; do
    env -i HOME=/root PATH=/usr/bin:/bin timeout -k 2 10 "$agent" $verb </dev/null 2>&1 ||
        echo "agent: $verb did not succeed; the deployment goes on"
done
# How nginx asks for health while the agent is down it reads when it starts, which
# may have been before reload told the agent of a new HEALTH_HOST or port.
if [ -f /run/nginx.pid ] && [ /var/lib/agent/nginx-health.conf -nt /run/nginx.pid ]; then
    env -i PATH=/usr/bin:/bin timeout -k 2 10 systemctl reload nginx </dev/null 2>&1 ||
        echo "agent: nginx was not reloaded; the deployment goes on"
fi
exit 0
