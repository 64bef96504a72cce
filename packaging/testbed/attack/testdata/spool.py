"""In a run whose output is kept: hands the descriptor of the output to a process outside of the run. It listens at
/tmp/spool, and after the run's end reads, writes and grows the file."""
import array, os, socket, sys, time

if sys.argv[1] == "keep":
    s = socket.socket(socket.AF_UNIX)
    s.bind("/tmp/spool")
    s.listen()
    print("ready", flush=True)
    c, _ = s.accept()
    _, fds, _, _ = socket.recv_fds(c, 1, 1)
    while c.recv(1):
        pass
    time.sleep(2)  # until the run has ended and been dealt with
    import fcntl
    for what, f in {
        "clear O_APPEND": lambda: fcntl.fcntl(fds[0], fcntl.F_SETFL, 0),
        "read": lambda: os.pread(fds[0], 100, 0),
        "write at the beginning": lambda: os.pwrite(fds[0], b"FORGED line", 0),
        "append": lambda: os.write(fds[0], b"FORGED tail\n" * 100000),
        "allocate": lambda: os.posix_fallocate(fds[0], 0, 64 << 20),
        "open again": lambda: os.write(os.open(f"/proc/self/fd/{fds[0]}", os.O_WRONLY), b"FORGED anew"),
        "cut off": lambda: os.ftruncate(fds[0], 3),
    }.items():
        try:
            f()
            print("did", what)
        except OSError as e:
            print("could not", what, e.strerror)
    print("over", flush=True)
    time.sleep(60)
else:
    print("the job's own line", flush=True)
    s = socket.socket(socket.AF_UNIX)
    s.connect("/tmp/spool")
    socket.send_fds(s, [b"G"], [1])
