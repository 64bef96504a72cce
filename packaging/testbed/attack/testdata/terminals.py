"""In a run without a terminal of its own: prints what of somebody's terminal it can reach."""
import fcntl, os, struct, termios

for name, fd in ("stdin", 0), ("stdout", 1), ("stderr", 2):
    if os.isatty(fd):
        print(name, "is a terminal,", os.ttyname(fd))
    for what, f in {
        "types into it": lambda: fcntl.ioctl(fd, termios.TIOCSTI, b"#"),
        "changes its size": lambda: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 7, 0, 0)),
        "changes its settings": lambda: termios.tcsetattr(fd, termios.TCSANOW, termios.tcgetattr(fd)),
        "takes it": lambda: fcntl.ioctl(fd, termios.TIOCSCTTY, 1),
    }.items():
        try:
            f()
            print(name, what)
        except (OSError, termios.error):
            pass
for path in "/dev/tty", "/proc/self/fd/0", "/proc/self/fd/2":
    try:
        if os.isatty(os.open(path, os.O_RDWR | os.O_NOCTTY)):
            print("opens", path)
    except OSError:
        pass
print("over")
