"""In a run: prints each control group's file that it may write, from its own group up to the root, and in those of
others; then leaves for another group, and makes one of its own."""
import glob, os

own = open("/proc/self/cgroup").read().strip().split("0::")[1]
groups, path = [], "/sys/fs/cgroup" + own
while path != "/sys/fs":
    groups.append(path)
    path = os.path.dirname(path)
groups += glob.glob("/sys/fs/cgroup/system.slice/*.service/") + glob.glob("/sys/fs/cgroup/system.slice/agent-runs.service/*/")
for group in groups:
    for file in os.listdir(group):
        try:
            os.close(os.open(os.path.join(group, file), os.O_WRONLY))
            print("may write", os.path.join(group, file))
        except OSError:
            pass
    try:
        os.mkdir(os.path.join(group, "mine"))
        print("made a group in", group)
    except OSError:
        pass
print("looked at", len(groups), "groups, in", own)
