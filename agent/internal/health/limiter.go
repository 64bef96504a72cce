package health

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

const (
	headerTimeout = time.Second // nginx sends a request in one piece

	// secondLook is how much later a connection that waits for its client is looked at again, before it is closed: at
	// one moment its request may have arrived without being read.
	secondLook = 10 * time.Millisecond

	// patience is how long a connection may take to send its request while others wait, where the kernel does not say
	// whose it is: then it may be nginx's as well as another's.
	patience = 50 * time.Millisecond

	maxHead = 8 << 10 // bytes of a request without its body
)

// limiter is a listener that stops accepting for no longer than secondLook, whatever its clients do: the kernel refuses
// whoever finds its queue full. At most max connections are open. When the next one comes, one that has not sent its
// request is closed: of the process that has most of them, the oldest. So whoever connects without end takes its own
// places, not nginx's, also as the same user. A connection whose request has arrived is never closed, and waits for
// us alone.
//
// At a port the kernel does not say whose a connection is, and each has patience: there slow clients delay others.
//
// The server is handed connections whose request has been read: one that waits costs 4 kB, and no place of the
// server's.
type limiter struct {
	net.Listener
	max    int
	onShed func(from peer)
	peerOf func(net.Conn) peer

	arrived chan net.Conn // with their requests
	ended   chan struct{} // run has
	err     error         // why; set before
	closing chan struct{}
	close   sync.Once
	heads   sync.WaitGroup

	mu      sync.Mutex
	open    int
	waiting []*limitedConn // for their requests, oldest first
	of      map[peer]int   // how many of them
	freed   chan struct{}  // has a token after a connection ended
}

// peer is the process that made a connection, as the kernel knows it; the zero value where it does not say.
type peer struct {
	fdconn.Peer
	known bool
}

func peerOf(c net.Conn) peer {
	if fc, ok := c.(*fdconn.Conn); ok {
		return peer{fc.Peer(), true}
	}
	return peer{}
}

type limitedConn struct {
	net.Conn
	l     *limiter
	from  peer
	since time.Time
	head  []byte // of the request, not yet read by the server
	whole atomic.Bool

	// Guarded by l.mu.

	waits bool      // it is in l.waiting
	idle  time.Time // since when it was seen waiting for its client; zero: it was not
	left  bool      // its place is free
}

func newLimiter(ln net.Listener, max int, onShed func(peer)) *limiter {
	return &limiter{Listener: ln, max: max, onShed: onShed, peerOf: peerOf,
		arrived: make(chan net.Conn), ended: make(chan struct{}), closing: make(chan struct{}),
		of: map[peer]int{}, freed: make(chan struct{}, 1)}
}

// run accepts until the listener is closed, or fails. It returns when nothing of it is left but what Accept has
// returned.
func (l *limiter) run() {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) { // until a descriptor is free
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			l.err = err
			break
		}
		c := &limitedConn{Conn: conn, l: l, from: l.peerOf(conn), since: time.Now(), waits: true}
		if !l.enter(c) {
			conn.Close()
			continue
		}
		l.heads.Go(c.awaitRequest)
	}
	close(l.ended)
	l.Close()
	l.heads.Wait()
}

// Accept returns a connection whose request has arrived.
func (l *limiter) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-l.ended:
		return nil, l.err
	}
}

// enter makes room for c. It waits for a second look, and while as many requests as there are places are answered.
func (l *limiter) enter(c *limitedConn) bool {
	for {
		entered, shed := l.tryEnter(c)
		if shed != nil {
			shed.Conn.Close()
			l.onShed(shed.from)
		}
		if entered {
			return true
		}
		select {
		case <-l.freed:
		case <-time.After(secondLook / 5):
		case <-l.closing:
			return false
		}
	}
}

func (l *limiter) tryEnter(c *limitedConn) (entered bool, shed *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.max {
		if shed = l.idleLocked(); shed == nil {
			return false, nil
		}
		l.leaveLocked(shed)
	}
	l.open++
	l.of[c.from]++
	l.waiting = append(l.waiting, c)
	return true, shed
}

// idleLocked is the connection to close: one that was seen idle before, and still is.
func (l *limiter) idleLocked() *limitedConn {
	now, most := time.Now(), 0
	for _, n := range l.of {
		most = max(most, n)
	}
	for _, c := range l.waiting {
		switch {
		case l.of[c.from] < most:
		case c.whole.Load() || c.hasUnread():
			c.idle = time.Time{}
		case c.idle.IsZero():
			c.idle = now
		case now.Sub(c.idle) >= secondLook && (c.from.known || now.Sub(c.since) >= patience):
			return c
		}
	}
	return nil
}

// dropLocked has c wait no longer, and reports whether it did.
func (l *limiter) dropLocked(c *limitedConn) bool {
	if !c.waits {
		return false
	}
	c.waits = false
	l.waiting = slices.DeleteFunc(l.waiting, func(other *limitedConn) bool { return other == c })
	if l.of[c.from]--; l.of[c.from] == 0 {
		delete(l.of, c.from)
	}
	return true
}

// Close also ends the connections that wait.
func (l *limiter) Close() error {
	l.close.Do(func() {
		close(l.closing)
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, c := range l.waiting {
			c.SetReadDeadline(time.Now()) // awaitRequest closes it
		}
	})
	return l.Listener.Close()
}

// awaitRequest reads a request but for its body and hands it to the server, or closes c.
func (c *limitedConn) awaitRequest() {
	c.SetReadDeadline(time.Now().Add(headerTimeout))
	head := make([]byte, 0, 512)
	for !c.whole.Load() {
		n, err := c.Conn.Read(head[len(head):cap(head)])
		from := max(0, len(head)-3)
		head = head[:len(head)+n]
		if tail := head[from:]; bytes.Contains(tail, []byte("\n\r\n")) || bytes.Contains(tail, []byte("\n\n")) {
			c.whole.Store(true)
		} else if err != nil || len(head) >= maxHead {
			c.Close()
			return
		}
		head = slices.Grow(head, 512)
	}
	c.head = head
	c.l.mu.Lock()
	mine := c.l.dropLocked(c)
	c.l.mu.Unlock()
	if !mine { // it was closed meanwhile
		return
	}
	select {
	case c.l.arrived <- c:
	case <-c.l.closing:
		c.Close()
	}
}

// Read reads the request from its beginning.
func (c *limitedConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// hasUnread reports whether bytes have arrived that were not read.
func (c *limitedConn) hasUnread() (unread bool) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		unread = err == nil && n > 0
	})
	return unread
}

// Close gives the place back.
func (c *limitedConn) Close() error {
	c.l.mu.Lock()
	c.l.leaveLocked(c)
	c.l.mu.Unlock()
	select {
	case c.l.freed <- struct{}{}:
	default:
	}
	return c.Conn.Close()
}

func (l *limiter) leaveLocked(c *limitedConn) {
	l.dropLocked(c)
	if !c.left {
		c.left = true
		l.open--
	}
}
