package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	maxConns   = 384      // 4 kB each until the request has arrived, then 20 kB for microseconds
	maxProbing = 64       // requests that wait for a probe at a time
	maxSent    = 64 << 10 // after a larger one the server would keep its end of a connection for half a second
)

// nonceHeader has a number by which the agent recognises its own request. The nginx snippet passes it on.
const nonceHeader = "X-Agent-Check"

// Handler answers a load balancer on Config.Path with the verdict's status and nothing else about the
// application. Any other path is 404. Only the client's Host (when none is configured, and if it is an address) and
// its name, if it is a load balancer, reach the application.
func (c *Checker) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxSent {
			panic(http.ErrAbortHandler)
		}
		if r.ContentLength != 0 { // do not wait for a body
			defer http.NewResponseController(w).SetReadDeadline(time.Now())
		}
		from := c.clientOf(r)
		switch {
		case r.UserAgent() == agentName: // our own probe, through nginx: an answer would wait for itself
			respond(w, http.StatusLoopDetected)
		case r.URL.Path != c.cfg.Path && (c.cfg.EarlierPath == "" || r.URL.Path != c.cfg.EarlierPath):
			respond(w, http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			respond(w, http.StatusMethodNotAllowed)
		case c.recordRequest(r.Header.Get(nonceHeader), networkOf(r), from):
			respond(w, http.StatusServiceUnavailable)
		default:
			respond(w, c.checkInTurn(r.Context(), from).Status)
		}
	})
}

// checkInTurn is check for as many as may wait for a probe, and the last verdict for more of them: whoever asks in
// great numbers must not keep the next one from being answered.
func (c *Checker) checkInTurn(ctx context.Context, from client) Verdict {
	defer c.probing.Add(-1)
	if c.probing.Add(1) > maxProbing {
		if v, ok := c.lastKnown(); ok {
			return v
		}
	}
	return c.check(ctx, from)
}

// recordRequest counts a request, or marks its nonce if it is our own, and reports whether a drain refuses it.
func (c *Checker) recordRequest(nonce, network string, from client) (draining bool) {
	c.mu.Lock()
	_, ours := c.nonces[nonce]
	if ours {
		c.nonces[nonce] = network
	} else {
		c.figures.Asked++
	}
	c.mu.Unlock()
	return c.cfg.Draining(!ours && from.balancer())
}

// networkOf is how a request arrived, "unix" or "tcp".
func networkOf(r *http.Request) string {
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return a.Network()
	}
	return ""
}

// expectNonce makes the handler recognise nonce until seen is called, which returns the network that it arrived by, ""
// for none.
func (c *Checker) expectNonce(nonce string) (seen func() (network string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nonces[nonce] = ""
	return func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		defer delete(c.nonces, nonce)
		return c.nonces[nonce]
	}
}

func respond(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, statusLine(status)+"\n")
}

// Serve answers at the socket that listen makes, if it is not nil, and on addr, a loopback address, until ctx is done,
// then waits for the probes in flight. Whichever cannot be had is logged once and tried again every 5 s: neither the
// other nor the rest of the agent depends on it. Only an addr that [CheckListen] refuses is an error.
//
// nginx asks at the socket. Any local user can take a port, while the agent restarts or before it starts, and answer in
// its name; addr is for nginx snippets from before, and for an agent that has no directory of root's.
func (c *Checker) Serve(ctx context.Context, addr string, listen func() (net.Listener, error)) error {
	if err := CheckListen(addr); err != nil {
		return err
	}
	c.probes.Go(func() { c.keepFallbackEarly(ctx) })
	var socket sync.WaitGroup
	if listen != nil {
		socket.Go(func() { c.keepServing(ctx, &c.socket, listen) })
	}
	config := net.ListenConfig{KeepAlive: -1} // connections live for milliseconds
	c.keepServing(ctx, &c.port, func() (net.Listener, error) { return config.Listen(ctx, "tcp", addr) })
	socket.Wait()
	c.probes.Wait()
	return nil
}

// keepServing serves what listen makes until ctx is done, and keeps state.
func (c *Checker) keepServing(ctx context.Context, state *listenState, listen func() (net.Listener, error)) {
	for ctx.Err() == nil {
		ln, err := listen()
		c.setListening(state, ln, err)
		if err == nil {
			err = c.serveListener(ctx, ln)
			c.setListening(state, nil, err)
		}
		if err != nil {
			sleep(ctx, c.retry)
		}
	}
}

// CheckListen reports why the health listener must not be on addr: only this machine's nginx may use it.
func CheckListen(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("health listen %q: want an address and a port such as 127.0.0.1:8127", addr)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("health listen %q: not a loopback address; "+
			"the load balancer comes through nginx (see the nginx snippet)", addr)
	}
	return nil
}

// serveListener returns nil once ctx is done, and an error if the listener failed before.
func (c *Checker) serveListener(ctx context.Context, ln net.Listener) error {
	limited := newLimiter(ln, maxConns, c.countShed)
	server := &http.Server{
		Handler:           c.Handler(),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      c.cfg.Timeout + 2*time.Second,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          log.New(io.Discard, "", 0), // errors of strangers are not logged
	}
	server.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { limited.Close() })
	defer stop()
	var accepting sync.WaitGroup
	defer accepting.Wait()
	accepting.Go(limited.run)
	err := server.Serve(limited)
	ending, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if server.Shutdown(ending) != nil {
		server.Close()
	}
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listening returns the states of both listeners.
func (c *Checker) listening() (port, socket listenState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port, c.socket
}

func (c *Checker) setListening(state *listenState, ln net.Listener, err error) {
	now := listenState{err: err}
	if ln != nil {
		now.addr = ln.Addr().String()
	}
	c.mu.Lock()
	was := *state
	*state = now
	c.mu.Unlock()
	switch {
	case err != nil && was.err == nil:
		c.log.Warn("health listener is not up, trying again every 5 s", "err", err)
	case err == nil && now.addr != "":
		c.log.Info("answering load balancers", "listen", now.addr, "path", c.cfg.Path)
	}
}

func (c *Checker) countShed(from peer) {
	c.mu.Lock()
	c.figures.Shed++
	c.mu.Unlock()
	c.floods.count(from, c.log)
}
