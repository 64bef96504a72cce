"""Takes the agent's port, on every loopback address, as soon as nobody has it, and answers whoever asks there with the
status that a file names, as the agent would.

    squat.py PORT FILE
"""
import socket, sys, threading, time

port, file = int(sys.argv[1]), sys.argv[2]


def squat(family, address):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    while True:
        try:
            s.bind((address, port))
            break
        except OSError:
            time.sleep(0.0002)
    s.listen(1024)
    print("taken", address, flush=True)
    while True:
        c, _ = s.accept()
        try:
            c.settimeout(1)
            c.recv(65536)
            c.sendall(b"HTTP/1.0 %s taken\r\n\r\n" % open(file, "rb").read().strip())
        except OSError:
            pass
        c.close()


threading.Thread(target=squat, args=(socket.AF_INET6, "::1"), daemon=True).start()
squat(socket.AF_INET, "127.0.0.1")
