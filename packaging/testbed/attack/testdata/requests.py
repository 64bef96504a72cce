"""Sends bytes to the agent's socket, each on a connection of its own, and prints how each was answered, one line each:
the status, "closed", or "open" after ten seconds. Descriptors go along as a client may send them."""
import array, os, socket, sys, tempfile

SOCKET = "/run/agent/agent.sock"


def dial():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(SOCKET)
    return s


def ask(name, request, fds=()):
    try:
        s = dial()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([request[:1]], rights)
        s.sendall(request[1:])
    except OSError as e:
        print(name, "closed", e.strerror)
        return
    try:
        line = s.recv(4096).split(b"\r\n")[0].decode(errors="replace")
        print(name, line.split(" ")[1] if " " in line else "closed")
    except TimeoutError:
        print(name, "open")
    except OSError:
        print(name, "closed")
    s.close()


def run(mode, args='["true"]'):
    body = b'{"args":%s,"mode":"%s"}' % (args.encode(), mode.encode())
    return b"POST /v1/runs HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def malformed():
    get = b"GET /v1/status HTTP/1.1\r\nHost: agent\r\n"
    for name, text in {
        "chunk": b"POST /v1/runs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "both": b"POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "headers": get + b"X: y\r\n" * 5000 + b"\r\n",
        "header": get + b"X: " + b"y" * 40000 + b"\r\n\r\n",
        "path": b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "nul": b"GET /v1/status\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "nulls": b"\0" * 4096 + b"\r\n\r\n",
        "nobody": b"POST /v1/runs HTTP/1.1\r\nHost: a\r\n\r\n",
        "nested": b"POST /v1/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200000,
        "method": b"BREW /v1/runs HTTP/1.1\r\nHost: a\r\n\r\n",
        "climb": b"GET /v1/runs/..%2f..%2f..%2fetc%2fpasswd/output HTTP/1.1\r\nHost: a\r\n\r\n",
        "half": get,
    }.items():
        ask(name, text)


def descriptors():
    """Every kind of descriptor, in every number, with every kind of request."""
    null = os.open("/dev/null", os.O_RDWR)
    a, b = socket.socketpair()
    kinds = {
        "directory": os.open("/tmp", os.O_RDONLY), "path": os.open("/tmp", os.O_PATH), "memory": os.memfd_create("m"),
        "pair": a.fileno(), "agent": dial().fileno(), "readonly": os.open("/etc/hostname", os.O_RDONLY), "pipe": os.pipe()[0],
    }
    import select
    kinds["epoll"] = select.epoll().fileno()
    for name, fd in kinds.items():
        ask(name, run("pipes"), [fd, fd, fd])
    for n in 0, 1, 2, 4, 8, 9, 253:
        ask(str(n), run("pipes"), [null] * n)
    for mode in "detached", "terminal":
        ask(mode, run(mode), [null] * 3)
    ask("status", b"GET /v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", [null] * 100)


globals()[sys.argv[1]]()
