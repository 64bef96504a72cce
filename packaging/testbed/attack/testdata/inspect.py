"""Prints what of the processes of its arguments this user may read, change or take."""
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)


def attempt(what, f):
    try:
        if f() not in (False, -1):
            print(what)
    except OSError:
        pass


for pid in map(int, sys.argv[1:]):
    for file in "environ", "mem", "maps", "smaps_rollup", "auxv", "io", "stack", "syscall", "personality":
        attempt(f"{pid}: read {file}", lambda: os.read(os.open(f"/proc/{pid}/{file}", os.O_RDONLY), 1) is not None)
    for file in "oom_score_adj", "coredump_filter", "comm", "clear_refs", "timerslack_ns", "mem", "uid_map", "setgroups":
        attempt(f"{pid}: write {file}", lambda: os.write(os.open(f"/proc/{pid}/{file}", os.O_WRONLY), b"0"))
    for file in "fd", "fdinfo", "map_files", "ns/mnt":
        attempt(f"{pid}: look at {file}", lambda: (os.listdir if "/" not in file else os.readlink)(f"/proc/{pid}/{file}") is not None)
    for file in "root", "cwd", "exe":
        attempt(f"{pid}: follow {file}", lambda: os.readlink(f"/proc/{pid}/{file}"))
    attempt(f"{pid}: signal", lambda: os.kill(pid, 0) is None)
    attempt(f"{pid}: trace", lambda: libc.ptrace(0x4206, pid, 0, 0))  # PTRACE_SEIZE
    attempt(f"{pid}: take a descriptor", lambda: libc.syscall(438, os.pidfd_open(pid), 0, 0))
    attempt(f"{pid}: priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 5) is None)
    attempt(f"{pid}: processor", lambda: os.sched_setaffinity(pid, {0}) is None)
    attempt(f"{pid}: scheduler", lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)) is None)
