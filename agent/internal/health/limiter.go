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

// patience is how long a connection may take to send its request while others wait for its place.
const patience = 50 * time.Millisecond

// limiter is a listener that keeps at most max connections open. When all places are taken, the
// next connection waits in the kernel's queue until one is free, or until the oldest one that we
// wait for has had its patience: that one is cut off. One whose request has arrived but was not
// read yet, on a busy machine, is not waited for. So slow clients cost others milliseconds, a burst
// of honest ones is answered, and memory has a bound.
type limiter struct {
	net.Listener
	max    int
	onShed func()

	mu      sync.Mutex
	open    []*limitedConn // oldest first
	freed   chan struct{}  // holds a token after a place became free
	closing chan struct{}
	once    sync.Once
}

type limitedConn struct {
	net.Conn
	l     *limiter
	since time.Time
	once  sync.Once
	idle  time.Time // since when it was seen to wait for its client; zero: it was not; guarded by l.mu

	reading atomic.Bool
	whole   atomic.Bool // the request's header has been read: its answer has a time limit
	tail    []byte      // the last bytes read, until whole
}

// Read also notes the header's end. The server cannot tell of it in time: while a request is on its
// way to the handler, the connection is read already, to notice a client who leaves.
func (c *limitedConn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	n, err := c.Conn.Read(p)
	if !c.whole.Load() {
		c.tail = append(c.tail, p[:n]...)
		if bytes.Contains(c.tail, []byte("\n\r\n")) || bytes.Contains(c.tail, []byte("\n\n")) {
			c.whole.Store(true)
		}
		c.tail = c.tail[max(0, len(c.tail)-2):]
	}
	return n, err
}

// waitsForClient reports whether c wants to read and there is nothing to be read.
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

// slowLocked reports whether c has had its patience and has been waiting for its client for a
// while: one look could fall between the arrival of the request and its being read.
func (c *limitedConn) slowLocked(now time.Time) bool {
	switch {
	case c.whole.Load() || now.Sub(c.since) < patience || !c.waitsForClient():
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

// waitForPlace returns once fewer than max connections are open. Only Accept adds any.
func (l *limiter) waitForPlace() error {
	for {
		full, slow := l.look()
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

// look reports whether all places are taken, and which connection to cut off for one, if any.
func (l *limiter) look() (full bool, slow *limitedConn) {
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
	c.once.Do(c.leave)
	return c.Conn.Close()
}

func (c *limitedConn) leave() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.open = slices.DeleteFunc(c.l.open, func(other *limitedConn) bool { return other == c })
	select {
	case c.l.freed <- struct{}{}:
	default:
	}
}
