package site

import (
	"context"
	"net"
	"net/http"
	"os"
	"time"
)

// runWorker serves the inherited listener until ctx is done or the master is gone, then lets the
// requests under way end.
func runWorker(ctx context.Context, opt options) error {
	socket := os.NewFile(3, "listener")
	ln, err := net.FileListener(socket)
	socket.Close()
	if err != nil {
		return err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the master's to remove
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // not waited for: it sits in Read until the process ends
		os.NewFile(4, "lifeline").Read(make([]byte, 1))
		stop()
	}()
	// A connection is a request here, so that the limit on one is a limit on the other.
	server := &http.Server{Handler: newApp(opt.hosts), ReadHeaderTimeout: 5 * time.Second}
	server.SetKeepAlivesEnabled(false)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(&limited{ln, make(chan struct{}, opt.threads)}) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if server.Shutdown(ending) != nil {
		return server.Close()
	}
	return nil
}

// limited accepts no more connections than there is room for in places; the others stay in the
// kernel's queue, where another worker finds them.
type limited struct {
	net.Listener
	places chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: conn, leave: func() { <-l.places }}, nil
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	if c.leave != nil {
		c.leave()
		c.leave = nil
	}
	return err
}
