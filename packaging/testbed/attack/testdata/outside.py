"""Many strangers, each with a Host of its own, ask the instance's health page through nginx for some seconds, while a
load balancer asks as it does. Prints how often the balancer got each status, or what else it got within its 5 s.

    outside.py STRANGERS SECONDS KIND       a kind is in HOSTS
"""
import collections, socket, sys, threading, time

strangers, seconds, kind = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
until, statuses, asked = time.time() + seconds, collections.Counter(), [0]
ELB = "User-Agent: ELB-HealthChecker/2.0\r\n"
HOSTS = {
    "names": "Host: h%d.example\r\n",
    "addresses": "Host: 10.%d.3.4\r\n",
    "a balancer's name": ELB + "Host: h%d.example\r\n",
    "a balancer's name, addresses": ELB + "Host: 10.%d.3.4\r\n",
    "through a balancer": "X-Forwarded-For: 198.51.100.7\r\nHost: 10.0.%d.1\r\n",
    "ports": "Host: 127.0.0.1:%d\r\n",
}


def ask(headers):
    try:
        with socket.create_connection(("127.0.0.1", 80), 5) as s:
            s.settimeout(5)
            s.sendall(f"GET /agent-health HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
            return int(s.makefile("rb").readline().split()[1])
    except (OSError, IndexError, ValueError) as e:
        return repr(e)


def stranger(n):
    while time.time() < until:
        asked[0] += 1
        ask(HOSTS[kind] % (asked[0] % 250 + 1))


threads = [threading.Thread(target=stranger, args=(n,), daemon=True) for n in range(strangers)]
for t in threads: t.start()
time.sleep(0.5)
while time.time() < until:
    statuses[ask("Host: 127.0.0.1\r\n" + ELB)] += 1
    time.sleep(0.2)
print("asked", asked[0], "balancer", dict(statuses))
