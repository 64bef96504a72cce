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
	"strings"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
)

const (
	headerTimeout = time.Second // nginx sends a request in one piece
	maxConns      = 128         // about 20 kB each; a busy check is answered in microseconds
)

// Handler answers a load balancer on Config.Path: the verdict's status and no word about the
// application. Any other path is 404. Only the asker's Host (when none is configured) and whether
// it is a load balancer reach the application.
func (c *Checker) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // cut a body off instead of waiting for it
			defer http.NewResponseController(w).SetReadDeadline(time.Now())
		}
		asker := askerOf(r)
		switch {
		case r.URL.Path != c.cfg.Path:
			say(w, http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			say(w, http.StatusMethodNotAllowed)
		case c.arrived(r.Header.Get(nonceHeader), asker):
			say(w, http.StatusServiceUnavailable)
		default:
			say(w, c.check(r.Context(), asker).Status)
		}
	})
}

// arrived counts one request of a load balancer, recognises it if it is our own question, and
// reports whether it has to be refused because of a drain.
func (c *Checker) arrived(nonce string, a asker) (draining bool) {
	c.mu.Lock()
	_, ours := c.nonces[nonce]
	if ours {
		c.nonces[nonce] = true
	} else {
		c.figures.Asked++
	}
	c.mu.Unlock()
	return c.cfg.Draining(!ours && a.agent != "")
}

// expect makes the handler look out for nonce until the func it returns is called, which reports
// whether it has arrived.
func (c *Checker) expect(nonce string) (seen func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nonces[nonce] = false
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		defer delete(c.nonces, nonce)
		return c.nonces[nonce]
	}
}

func say(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, statusLine(status)+"\n")
}

// askerOf keeps of a request its Host, if one could be sent, and the name under which AWS's load
// balancers ask: applications exist that answer those in another way.
func askerOf(r *http.Request) asker {
	a := asker{own: true, host: strings.ToLower(r.Host)}
	if endpoint.CheckHost(a.host) != nil {
		a.host = "invalid"
	}
	for _, lb := range []string{"ELB-HealthChecker/2.0", "ELB-HealthChecker/1.0"} {
		if r.UserAgent() == lb {
			a.agent = lb
		}
	}
	return a
}

// Serve answers on addr, a loopback address, until ctx is done, then waits for the probes under
// way. An address that is taken or missing is told once and tried again every 5 s: the rest of
// the agent must not depend on it. Only an addr that [CheckListen] refuses is an error.
func (c *Checker) Serve(ctx context.Context, addr string) error {
	if err := CheckListen(addr); err != nil {
		return err
	}
	c.probes.Go(func() { c.keepFallbackEarly(ctx) })
	listen := net.ListenConfig{KeepAlive: -1} // connections live for milliseconds
	for ctx.Err() == nil {
		ln, err := listen.Listen(ctx, "tcp", addr)
		c.setListening(addr, ln, err)
		if err == nil {
			err = c.serveListener(ctx, ln)
			c.setListening(addr, nil, err)
		}
		if err != nil {
			sleep(ctx, c.retry)
		}
	}
	c.probes.Wait()
	return nil
}

// CheckListen reports why the health listener must not be on addr: only this machine's nginx has
// business with it.
func CheckListen(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("health listen %q: want an address and a port such as 127.0.0.1:8127", addr)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("health listen %q: not a loopback address; the load balancer comes through nginx (see the nginx snippet)", addr)
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
		MaxHeaderBytes:    4 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers send wrong is no news
	}
	server.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { limited.Close() })
	defer stop()
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

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listenState is whether and where the listener stands.
type listenState struct {
	addr string
	err  error
}

// Listening returns the address answered on, or why there is none at the moment. Both are zero
// before Serve.
func (c *Checker) Listening() (addr string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listens.addr, c.listens.err
}

func (c *Checker) setListening(addr string, ln net.Listener, err error) {
	now := listenState{err: err}
	if ln != nil {
		now.addr = ln.Addr().String()
	}
	c.mu.Lock()
	was := c.listens
	c.listens = now
	c.mu.Unlock()
	switch {
	case err != nil && was.err == nil:
		c.log.Warn("health listener is not up, trying again every 5 s", "listen", addr, "err", err)
	case err == nil && now.addr != "":
		c.log.Info("answering load balancers", "listen", now.addr, "path", c.cfg.Path)
	}
}

func (c *Checker) countShed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.figures.Shed++
}
