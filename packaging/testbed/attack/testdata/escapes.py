"""Writes cron files, one after the other, of which one text of a job has what a terminal would obey, and lists the jobs
after each. The agent's other verbs come last.

    escapes.py CRON-FILE
"""
import os, subprocess, sys

EVIL = ["\\e]0;owned\\a", "\\e[2J\\e[1;31m", "\\e]52;c;b3duZWQ=\\a", "\\u009b31m", "\\u202Eowned", "\\r\\nok    runs    all is well", "\\x7f\\b\\b"]
FIELDS = {
    "lock": 'lock: "%s"', "enabled": 'enabled: "${NO_SUCH:-%s}"', "dir": 'dir: "%s"', "env": 'env: {"A%s": "b"}',
    "value": 'env: {A: "%s"}', "name": 'name: "a%s"', "timezone": 'timezone: "%s"', "notify": 'notify: ["%s"]',
    "environments": 'environments: ["%s"]', "command": 'command: ["/bin/%s", "%s"]', "overlap": 'overlap: "%s"',
    "key": '"%s": 1', "schedule": 'schedule: "%s"', "url": 'url: "/%s"',
}
BASE = {"name": "name: evil", "schedule": 'schedule: "@daily"', "command": 'command: "true"'}


def agent(*words):
    p = subprocess.run(["agent", *words], capture_output=True, timeout=60)
    sys.stdout.buffer.write(p.stdout + p.stderr)
    sys.stdout.flush()


for field, form in FIELDS.items():
    for evil in EVIL if field in ("lock", "name") else ["".join(EVIL)]:
        job = dict(BASE)
        if field == "url":
            del job["command"]
        job[field] = form.replace("%s", evil)
        with open(sys.argv[1] + ".new", "w") as f:
            f.write("version: 1\ncron:\n  - " + "\n    ".join(job.values()) + "\n    on: all\n")
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        print("field", field)
        agent("reload")
        agent("cron", "list")
        agent("cron", "next")
        if field in ("lock", "command", "dir", "name"):
            agent("cron", "run", "evil")
            agent("exec", "--lock", evil.encode().decode("unicode_escape") if field == "lock" else "x", "--", "true")
for words in ["status"], ["ps", "--all"], ["cron", "history"], ["cron", "check", sys.argv[1]], ["cron", "pause", "\x1b[31m"], ["logs", "\x1b[31m"], ["exec", "-d", "--", "/tmp/\x1b[31mred"], ["stop", "\x9b"], ["exec", "--", "/tmp/\x1b[2Jno"]:
    agent(*words)
agent("ps", "--all")
