# A pre-forking server in small: the master fills SHARED MB, listens, forks
# WORKERS children that each fill OWN MB of their own, and says "ready PORT".
# PORT 0 is any that is free.
# A child that gets SIGUSR1 burns CPU for a while; SIGHUP makes the master fork
# one more.
import os, signal, socket, sys, time

workers, shared, own, port = map(int, sys.argv[1:5])

def fill(mb):
    return [bytearray(os.urandom(4096) * 256) for _ in range(mb)]

def burn(*_):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass

base = fill(shared)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
for _ in range(500):
    try:
        listener.bind(("127.0.0.1", port))
        break
    except OSError:  # the last holder is on its way out
        time.sleep(0.01)
listener.listen(64)

def worker():
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, burn)
        mine = fill(own)
        os.write(w, b"x")
        while True:
            signal.pause()
    os.read(r, 1)
    os.close(r)
    os.close(w)

for _ in range(workers):
    worker()
signal.signal(signal.SIGHUP, lambda *_: worker())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", listener.getsockname()[1], flush=True)
while True:
    signal.pause()
