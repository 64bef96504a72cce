"""Listens at each path of its arguments, as anybody may in a temporary directory, and keeps what clients send."""
import os, socket, sys, threading

got = open("/tmp/false-agent-got", "ab", buffering=0)


def serve(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    os.chmod(os.path.dirname(path), 0o777)
    os.chmod(path, 0o777)
    s.listen()
    while True:
        c, _ = s.accept()
        data, fds, _, _ = socket.recv_fds(c, 65536, 16)
        got.write(data + b"%d descriptors\n" % len(fds))
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        c.close()


for p in sys.argv[1:]:
    threading.Thread(target=serve, args=(p,)).start()
