package health

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is how long a connection may take to send its request while others wait.
const patience = 50 * time.Millisecond

// limiter is a listener that keeps at most max connections open. Then the next connection waits in the
// kernel's queue until one ends, or until the oldest one without a request is older than patience: that
// one is closed. One whose request has arrived but was not read yet, on a busy machine, stays. So slow
// clients delay others by milliseconds, a burst of normal ones is answered, and memory is limited.
type limiter struct {
	net.Listener
	max    int
	onShed func()

	mu      sync.Mutex
	open    []*limitedConn // oldest first
	freed   chan struct{}  // has a token after a connection ended
	closing chan struct{}
	once    sync.Once
}

type limitedConn struct {
	net.Conn
	l     *limiter
	since time.Time
	once  sync.Once
	idle  time.Time // since when it was seen waiting for its client; zero: it was not; guarded by l.mu

	reading    atomic.Bool
	headerRead atomic.Bool // the answer has a time limit
	tail       []byte      // the last bytes read, until headerRead
}

// Read also notices the end of the header. The server reports it too late: it reads on before it calls
// the handler, to notice a client that disconnects.
func (c *limitedConn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	n, err := c.Conn.Read(p)
	if !c.headerRead.Load() {
		c.tail = append(c.tail, p[:n]...)
		if bytes.Contains(c.tail, []byte("\n\r\n")) || bytes.Contains(c.tail, []byte("\n\n")) {
			c.headerRead.Store(true)
		}
		c.tail = c.tail[max(0, len(c.tail)-2):]
	}
	return n, err
}

// waitsForClient reports whether a read of c is pending and no byte has arrived.
func (c *limitedConn) waitsForClient() bool {
	if !c.reading.Load() {
		return false
	}
	unread := false
	if sc, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
				unread = err == nil && n > 0
			})
		}
	}
	return !unread
}

// slowLocked reports whether c is older than patience and has waited for its client for a while: at one
// moment the request may have arrived without being read.
func (c *limitedConn) slowLocked(now time.Time) bool {
	switch {
	case c.headerRead.Load() || now.Sub(c.since) < patience || !c.waitsForClient():
		c.idle = time.Time{}
	case c.idle.IsZero():
		c.idle = now
	}
	return !c.idle.IsZero() && now.Sub(c.idle) >= patience/5
}

func newLimiter(ln net.Listener, max int, onShed func()) *limiter {
	return &limiter{Listener: ln, max: max, onShed: onShed, freed: make(chan struct{}, 1), closing: make(chan struct{})}
}

func (l *limiter) Accept() (net.Conn, error) {
	if err := l.waitForPlace(); err != nil {
		return nil, err
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, l: l, since: time.Now()}
	l.mu.Lock()
	l.open = append(l.open, c)
	l.mu.Unlock()
	return c, nil
}

// waitForPlace returns once fewer than max connections are open. Only Accept adds one.
func (l *limiter) waitForPlace() error {
	for {
		full, slow := l.findSlow()
		switch {
		case !full:
			return nil
		case slow != nil:
			slow.Close()
			l.onShed()
			continue
		}
		select {
		case <-l.freed:
		case <-time.After(patience / 5):
		case <-l.closing:
			return net.ErrClosed
		}
	}
}

// findSlow reports whether max connections are open, and which one to close, if any.
func (l *limiter) findSlow() (full bool, slow *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < l.max {
		return false, nil
	}
	now := time.Now()
	for _, c := range l.open {
		if c.slowLocked(now) {
			return true, c
		}
	}
	return true, nil
}

func (l *limiter) Close() error {
	l.once.Do(func() { close(l.closing) })
	return l.Listener.Close()
}

func (c *limitedConn) Close() error {
	c.once.Do(c.release)
	return c.Conn.Close()
}

func (c *limitedConn) release() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.open = slices.DeleteFunc(c.l.open, func(other *limitedConn) bool { return other == c })
	select {
	case c.l.freed <- struct{}{}:
	default:
	}
}
