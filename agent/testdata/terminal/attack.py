# What a command can try with the terminal of whoever typed it: DIR is where it reports, and where stay.py listens.
import array, fcntl, os, socket, struct, sys, termios
dir = sys.argv[1]
fds, said = [0, 1, 2], []
try:
    if os.fstat(3).st_rdev:  # the caller has it open
        fds.append(3)
except OSError:
    pass
try:
    fds.append(os.open("/dev/tty", os.O_RDWR))
except OSError:
    pass
for fd in fds:
    said.append("%d:%s" % (fd, os.isatty(fd)))
    try:  # type a line, which the shell reads when this has ended
        for c in b"touch " + dir.encode() + b"/rooted\n":
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([c]))
        said.append("typed")
    except OSError:
        pass
    try:
        t = termios.tcgetattr(fd)
        t[3] &= ~termios.ECHO
        termios.tcsetattr(fd, termios.TCSANOW, t)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 7, 0, 0))
    except (OSError, termios.error):
        pass
s = socket.socket(socket.AF_UNIX)
s.connect(dir + "/stay")
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
s.recv(1)
with open(dir + "/report", "w") as f:
    f.write(" ".join(said))
