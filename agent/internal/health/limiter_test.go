package health

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// queue is a listener of connections that are there already.
type queue chan net.Conn

func (q queue) Accept() (net.Conn, error) {
	c, ok := <-q
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (q queue) Close() error { return nil }

func (q queue) Addr() net.Addr { return &net.UnixAddr{} }

// A check that comes after thousands of connections that send nothing waits for none of them. It waited for each: the
// kernel's queue filled, and refused it. No time passes here but what the limiter waits.
func TestManyWhoSendNothingDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 4000
		q := make(queue, idle+1)
		for range idle {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			q <- ours
		}
		ours, theirs := net.Pipe()
		q <- ours
		go fmt.Fprint(theirs, "GET / HTTP/1.0\r\n\r\n")
		shed := 0
		l := newLimiter(q, maxConns, func(peer) { shed++ })
		l.peerOf = func(c net.Conn) peer { return peer{known: true} }
		go l.run()
		began, asked := time.Now(), make(chan time.Duration, 1)
		go func() { // as a server does
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
						asked <- time.Since(began)
					}
				}()
			}
		}()
		if took := <-asked; took > 200*time.Millisecond {
			t.Errorf("the check is read after %s", took)
		}
		close(q)
		if l.Close(); shed < idle-maxConns {
			t.Errorf("%d connections were closed", shed)
		}
	})
}

// Whoever has most connections loses one, not whoever came first; and one whose request has arrived stays.
func TestWhoHasMostLosesOne(t *testing.T) {
	l := newLimiter(make(queue), 6, func(peer) {})
	of := func(pid int) *limitedConn {
		c := &limitedConn{Conn: nil, l: l, waits: true, from: peer{known: true}}
		c.Conn, _ = net.Pipe()
		c.from.PID = pid
		return c
	}
	first, busy := of(1), of(2)
	busy.whole.Store(true)
	for _, c := range []*limitedConn{first, busy, of(2), of(2), of(3), of(3)} {
		if !l.enter(c) {
			t.Fatal("there is no room")
		}
	}
	for pid := 4; pid < 8; pid++ {
		if !l.enter(of(pid)) {
			t.Fatal("there is no room")
		}
	}
	if first.left && l.open == 6 {
		t.Error("the process with one connection lost it, and others have more")
	}
	if busy.left {
		t.Error("a request that has arrived was dropped")
	}
}
