"""Hands the agent sockets whose close() waits for an hour: the send queue is full, the far end does not read, and
SO_LINGER is set. A thread of whoever closes the last copy waits with it. Prints how many connections were refused.

    lingering.py CONNECTIONS SOCKETS-ON-EACH REQUEST
"""
import array, os, socket, struct, sys, time

connections, each, request = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode()
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)


def lingering():
    near = socket.create_connection(listener.getsockname())
    near.setblocking(False)
    try:
        while True:
            near.send(b"x" * 65536)
    except BlockingIOError:
        pass
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    return near


def hand_over():
    """In a process of its own: if the agent was faster, it is this process that waits."""
    s = socket.socket(socket.AF_UNIX)
    s.connect("/run/agent/agent.sock")
    mine = [lingering() for _ in range(each)]
    s.sendmsg([request[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [m.fileno() for m in mine]))])
    s.sendall(request[1:])
    os.write(1, b"sent\n")
    for m in mine:
        m.close()
    time.sleep(3600)


for _ in range(connections):
    if os.fork() == 0:
        try:
            hand_over()
        except OSError as e:
            os.write(1, b"refused: %s\n" % e.strerror.encode())
        os._exit(0)
time.sleep(float(os.environ.get("HOLD", "8")))
os.killpg(0, 9)
