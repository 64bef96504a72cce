package fdconn

import (
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long closing a descriptor of somebody else's may take.
const patience = time.Millisecond

// withoutLinger calls f, which closes descriptors of somebody else's. A TCP socket of which data is still to be sent
// holds the thread that closes it last for as long as its SO_LINGER says (tcp_close in the kernel): an hour, if its
// sender chose so, and some sixty threads were the end of the agent. Any signal ends that wait, so the thread gets one
// as often as it needs; SIGURG is the runtime's own, which stands being sent more than it asked for.
func withoutLinger(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, thread := os.Getpid(), unix.Gettid()
	var mu sync.Mutex
	var again *time.Timer
	closing := true
	mu.Lock()
	again = time.AfterFunc(patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if closing { // else the thread is another's by now
			unix.Tgkill(pid, thread, unix.SIGURG)
			again.Reset(patience)
		}
	})
	mu.Unlock()
	f()
	mu.Lock()
	closing = false
	mu.Unlock()
	again.Stop()
}

// drained discards what is unread of c, and reports whether no descriptor is among it, since none comes without a byte.
// Nothing comes afterwards.
func drained(c *net.UnixConn) (clean bool) {
	_ = Use(c, func(fd int) error {
		err := unix.Shutdown(fd, unix.SHUT_RD)
		for b := make([]byte, 4<<10); err == nil; {
			var n, flags int
			n, _, flags, _, err = unix.Recvmsg(fd, b, nil, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			switch {
			case err != nil || flags&unix.MSG_CTRUNC != 0: // descriptors come with these bytes
				return err
			case n <= 0:
				clean = true
				return nil
			}
			_, _, err = unix.Recvfrom(fd, b[:n], unix.MSG_DONTWAIT)
		}
		return err
	})
	return clean
}
