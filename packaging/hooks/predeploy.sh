#!/bin/sh
# Holds new cron runs while this deployment swaps the application; what runs
# already goes on. A deployment that fails never gets to the hook that releases
# them, so the hold ends by itself.
# The same file serves hooks/predeploy and confighooks/predeploy. It must never
# fail a deployment or make one wait: a time limit, exit 0 whatever happens, and
# none of the application's variables (they are all in a hook's environment).
agent=/opt/agent/bin/agent
[ -x "$agent" ] || exit 0
env -i HOME=/root PATH=/usr/bin:/bin timeout -k 2 10 "$agent" hold </dev/null 2>&1 ||
    echo "agent: hold did not succeed; the deployment goes on"
exit 0
