"""Asks the agent's socket as often as it can for some seconds, on some connections that it keeps. Prints how often."""
import socket, sys, threading, time

until = time.time() + float(sys.argv[1])
asked = [0]


def ask():
    while time.time() < until:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        try:
            s.connect("/run/agent/agent.sock")
            while time.time() < until:
                s.sendall(b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n" * 50)
                for _ in range(5):
                    if not s.recv(65536):
                        raise OSError
                asked[0] += 50
        except OSError:
            asked[0] += 1
            time.sleep(0.001)
        finally:
            s.close()


threads = [threading.Thread(target=ask) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
print("asked", asked[0])
