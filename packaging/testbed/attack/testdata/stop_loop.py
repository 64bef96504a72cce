"""Stops every process of this user as soon as it may: the next numbers of processes, over and over, for some seconds."""
import os, signal, sys, time

until = time.time() + float(sys.argv[1])
last, own = os.open("/proc/loadavg", os.O_RDONLY), os.getpid()
stopped = set()
while time.time() < until:
    n = int(os.pread(last, 128, 0).split()[4])
    for pid in range(n, n + 7):
        if pid != own:
            try:
                os.kill(pid, signal.SIGSTOP)
                stopped.add(pid)
            except OSError:
                pass
names = []
for pid in stopped:
    try:
        names.append(open(f"/proc/{pid}/comm").read().strip())
    except OSError:
        pass
print("stopped", len(stopped), "of them still there:", " ".join(names))
