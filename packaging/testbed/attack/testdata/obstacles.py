"""Puts an obstacle in the place of each file of its arguments.

    obstacles.py KIND FILE...
"""
import os, shutil, socket, sys

kind, files = sys.argv[1], sys.argv[2:]
LINKS = {"zero": "/dev/zero", "shadow": "/etc/shadow", "proc": "/proc/self/root/etc/shadow",
    "climbing": "../../../../../../etc/shadow", "itself": None, "dangling": "/nothing/here"}


def largest(name):
    """As large as each may be, of what takes most time or memory."""
    if name == "cron.yaml":
        job = '- {name: "job%d", schedule: "@every 1h", on: all, command: "true %s"}\n'
        yield "cron:\n"
        for i in range(10_000):
            yield job % (i, "x" * 300)
    elif name == "crontab":
        for i in range(499):
            yield "V%d=%s\n" % (i, "x" * 10)
        for i in range(9_500):
            yield "A=%d\n17 3 1 1 * true\n" % i
    elif name.endswith(".env"):
        for i in range(5_000):
            yield "export A%d=%s\n" % (i, "x" * 35)
    else:
        yield "web: x\n" * 9_000


for path in files:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
    if kind in LINKS:
        os.symlink(LINKS[kind] or path, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.makedirs(os.path.join(path, "a"))
    elif kind == "socket":
        os.chdir(os.path.dirname(path))
        socket.socket(socket.AF_UNIX).bind(os.path.basename(path))
    elif kind == "gigabyte":
        with open(path, "wb") as f:
            f.truncate(1 << 30)
    elif kind == "nulls":
        with open(path, "wb") as f:
            f.write(bytes(64 << 10))
    elif kind == "largest":
        with open(path, "w") as f:
            f.writelines(largest(os.path.basename(path)))
    elif kind != "none":
        sys.exit("no such kind: " + kind)
