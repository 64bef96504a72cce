#!/bin/sh
# Holds new cron runs while this deployment replaces the application; running ones
# continue. The hold ends by itself, because a failed deployment does not reach the
# hook that releases it.
# The same file serves hooks/predeploy and confighooks/predeploy. It must never fail
# or delay a deployment: it has a time limit, always exits 0, and drops the
# application's variables, which a hook inherits.
agent=/opt/agent/bin/agent
[ -x "$agent" ] || exit 0
env -i HOME=/root PATH=/usr/bin:/bin timeout -k 2 10 "$agent" hold </dev/null 2>&1 ||
    echo "agent: hold did not succeed; the deployment goes on"
exit 0
