package health

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// patience is how long a connection may take to send its request while others wait for its place.
const patience = 50 * time.Millisecond

// limiter is a listener that keeps at most max connections open. When all places are taken, the
// next connection waits in the kernel's queue until one is free, or until the oldest one that we
// wait for has had its patience: that one is cut off. One whose request has arrived but was not
// read yet, on a busy machine, is not waited for. So slow clients cost others milliseconds, a burst
// of honest ones loses nobody, and memory has a bound.
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
	busy  bool // its request has been read; guarded by l.mu
	once  sync.Once

	waiting atomic.Bool // a Read has nothing to return yet
}

func (c *limitedConn) Read(p []byte) (int, error) {
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	return c.Conn.Read(p)
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
	for _, c := range l.open {
		if !c.busy && c.waiting.Load() && time.Since(c.since) >= patience {
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

type connKey struct{}

// connContext lets markBusy find the connection of a request.
func (l *limiter) connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// markBusy says that the request of r's connection has been read, so that it is not cut off.
func markBusy(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
		c.l.mu.Lock()
		c.busy = true
		c.l.mu.Unlock()
	}
}
