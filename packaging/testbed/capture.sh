#!/bin/bash
# capture.sh: answers, on a real instance, what could not be settled without one.
# Run as root, read the output, then attach it to an issue.
#
# It changes nothing and prints no values: of the environment only the names, and
# which kinds of characters a value and its quoting have.
set -u
section() { printf '\n== %s\n' "$*"; }
eb=/opt/elasticbeanstalk

# python SCRIPT-ON-STDIN: the platform's own, with nothing of the environment.
python() { env -i PATH=/usr/bin:/bin /usr/bin/python3 -I - "$@" 2>&1; }

# shapes FILE: of each variable the name and what its text in the file looks like. A
# name is printed only when get-config knows it: the second line of a value can look
# like an assignment, too.
shapes() {
    [[ -r $1 ]] || { echo "$1: not there"; return; }
    stat -c '%n %A %U:%G %s bytes' "$1"
    python "$1" <<'E'
import json, re, subprocess, sys
known = {"PATH", "PYTHONPATH", "PORT", "HOME", "LC_ALL", "LANG"}
try:
    known |= set(json.loads(subprocess.run(["/opt/elasticbeanstalk/bin/get-config", "environment"], capture_output=True).stdout))
except Exception as e:
    print("  get-config:", type(e).__name__)
kinds = [("starts with \"", r'^"'), ("ends with \"", r'"$'), ("starts with '", r"^'"), ("ends with '", r"'$"),
         ("quote inside", r'''^.+["'].+$'''), ("backslash", r"\\"), ("backslash quote", r'\\"'), ("backslash dollar", r"\\\$"),
         ("backslash n", r"\\n"), ("dollar", r"\$"), ("hash", "#"), ("semicolon", ";"), ("ampersand", "&"), ("backtick", "`"),
         ("percent", "%"), ("equals", "="), ("blank", " "), ("blank at the end", r"\s$"), ("not ASCII", r"[^\x00-\x7f]")]
for line in open(sys.argv[1], errors="surrogateescape").read().split("\n")[:-1]:
    name, equals, value = line.partition("=")
    if not equals or name not in known:
        name, value = "(a line without a known name)", line
    print("  %s: %s" % (name, ", ".join(k for k, pattern in kinds if re.search(pattern, value)) or "plain"))
E
}

section "system"
systemctl --version | head -n 1
uname -rm
stat -fc 'cgroup: %T' /sys/fs/cgroup
cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null
getenforce 2>/dev/null || echo "no SELinux tools"
ls -d /etc/cron.d /usr/sbin/crond 2>&1
id webapp

section "environment file"
shapes $eb/deployment/env
shapes $eb/deployment/env.list
ls -l $eb/deployment $eb/deployment/secrets $eb/config/ebenvinfo 2>&1 | sed 's/^/  /'

section "get-config: keys only"
python <<'E'
import json, subprocess
for verb in "environment", "container", "platformconfig":
    run = subprocess.run(["/opt/elasticbeanstalk/bin/get-config", verb], capture_output=True)
    try:
        print(verb + ":", ", ".join(sorted(json.loads(run.stdout))))
    except Exception as e:
        print(verb + ": exit", run.returncode, type(e).__name__)
E
env -i $eb/bin/get-config environment >/dev/null 2>&1; echo "with an empty environment: exit $?"
systemd-run --quiet --pipe --wait -p ProtectSystem=strict -p ReadWritePaths=-/var/log $eb/bin/get-config environment >/dev/null 2>&1
echo "with a read-only file system: exit $?"

section "cfn-metadata-cache.json: keys only"
python <<'E'
import json
def keys(node, path=""):
    if isinstance(node, dict):
        for k, v in node.items():
            print("  " + path + "/" + k)
            keys(v, path + "/" + k)
keys(json.load(open("/opt/elasticbeanstalk/deployment/cfn-metadata-cache.json")))
E

section "units"
for unit in web.service eb-app.target aws-eb.target nginx.service; do
    # of a setting that may hold a value, its name; continued lines are one
    systemctl cat $unit 2>&1 | sed -E ':a; /\\$/ { N; s/\\\n/ /; ba }' | sed -E '
        /^(# \/\S+$|\[|$|No files found)/ b
        /^(Description|PartOf|Wants|Requires|After|Before|User|Group|Type|EnvironmentFile|Restart(Sec)?|KillMode|Timeout\w+|SyslogIdentifier|WorkingDirectory|PIDFile|WantedBy)=/ b
        s/^(Exec\w+=\S*).*/\1 (rest hidden)/; t
        s/^(\w+=).*/\1(hidden)/; t
        s/.*/(hidden)/'
done
systemctl show -p ConsistsOf eb-app.target aws-eb.target
ls -l /var/pids /etc/systemd/system 2>&1

section "engine: which steps, in order (the last 400 instructions)"
grep -ohE 'Starting command: .*|Executing instruction: .*|Running script: .*' /var/log/eb-engine.log | tail -n 400

section "nginx"
ls -l /etc/nginx/conf.d /etc/nginx/conf.d/elasticbeanstalk 2>&1

section "agent"
agent version 2>&1
agent status 2>&1
cat /var/log/agent-install.log 2>&1
