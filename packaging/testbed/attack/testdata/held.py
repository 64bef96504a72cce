"""Holds whoever executes a program of this user where it has become this user and executes it, and stops it there for
good: with a lease on the program, which the kernel asks back first. Prints what it may do with that process.

    held.py PROGRAM
"""
import fcntl, os, runpy, shutil, signal, sys, time

program = sys.argv[1]
shutil.copy("/bin/true", program)
os.chmod(program, 0o755)
asked = []
signal.signal(signal.SIGIO, lambda *_: asked.append(1))
fd = os.open(program, os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("ready", flush=True)
stopped, before = set(), set()
until = time.time() + 100
while time.time() < until:
    time.sleep(0.05)
    if not asked:
        continue
    now = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            mine = os.stat(f"/proc/{pid}").st_uid == os.getuid() or b"\nUid:\t%d\t" % os.getuid() in open(f"/proc/{pid}/status", "rb").read()
            if pid in stopped or not mine or b"supervise" not in open(f"/proc/{pid}/cmdline", "rb").read():
                continue
            now.add(pid)
            if pid not in before:  # it may be another's start, which is over in no time
                continue
            os.kill(pid, signal.SIGSTOP)
        except OSError:
            continue
        stopped.add(pid)
        print("stopped", pid, flush=True)
        sys.argv[1:] = [str(pid)]
        runpy.run_path(os.path.join(os.path.dirname(__file__), "inspect.py"))
        sys.stdout.flush()
    before = now
