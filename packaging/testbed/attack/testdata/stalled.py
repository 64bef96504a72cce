"""Opens connections to the agent's socket, says the same beginning on each, and holds them for some seconds.

    stalled.py CONNECTIONS SECONDS BEGINNING [PADDING]
"""
import socket, sys, time

connections, seconds, text = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3].encode().decode("unicode_escape").encode()
text += b"x" * int(sys.argv[4] if len(sys.argv) > 4 else 0)
held, refused = [], 0
for _ in range(connections):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.settimeout(0.2)
        s.connect("/run/agent/agent.sock")
        held.append(s)
        s.sendall(text)
    except OSError:
        refused += 1
time.sleep(seconds)
closed = 0
for s in held:
    s.settimeout(0.01)
    try:
        while s.recv(65536):
            pass
        closed += 1
    except TimeoutError:
        pass
    except OSError:
        closed += 1
print("open", len(held) - closed, "of", connections)
