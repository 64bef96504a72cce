package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
)

// TestPortOfSomebodyElse: whoever has taken the port, before the agent or while it restarts, answers no load balancer.
func TestPortOfSomebodyElse(t *testing.T) {
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	var theirs, ours atomic.Int32
	theirs.Store(503)
	ours.Store(200)
	status := func(n *atomic.Int32) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(n.Load())) }
	}
	squatter := httptest.NewServer(status(&theirs))
	defer squatter.Close()
	s := &stack{dir: t.TempDir(), app: strings.TrimPrefix(app(t, status(&ours)), "http://"),
		agent: squatter.Listener.Addr().String(), nginx: "127.0.0.1:" + freePort(t)}
	s.openToNginx()
	s.writeNginx(t)
	s.proxy = startProcess(t, s.dir, nil, "nginx", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
	t.Cleanup(s.proxy.stop)
	for _, lap := range []string{"first", "restarted"} {
		_, stop := s.serveAgent(t, Config{Host: host("www.example.com"), Lifetime: -1})
		s.eventuallyAll(t, 200) // nginx may still start
		theirs.Store(200)
		ours.Store(500)
		s.checkAll(t, lap+", sick", 500)
		ours.Store(200)
		s.drain(t)
		s.checkAll(t, lap+", draining", 503)
		stop()
		s.checkAll(t, lap+", draining without an agent", 503)
		s.undrain()
		s.checkAll(t, lap+", without an agent", 200)
		theirs.Store(503)
		s.checkAll(t, lap+", without an agent", 200)
	}
}

// TestStatusNamesATakenPort: it is a warning where nginx asks at the socket, and a fault where it cannot.
func TestStatusNamesATakenPort(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	socket := filepath.Join(t.TempDir(), "health.sock")
	for _, tt := range []struct {
		listen func() (net.Listener, error)
		states []api.State
		want   string
	}{
		{socketAt(socket), []api.State{api.Warn}, "proxy_pass http://unix:" + socket + ";"},
		{nil, []api.State{api.Bad}, "health.listen"},
		{socketAt("/nonexistent/health.sock"), []api.State{api.Bad, api.Bad}, "nginx asks the application itself"},
	} {
		c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example")})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Serve(ctx, other.Addr().String(), tt.listen) }()
		eventually(t, "the states to be known", func() bool {
			port, socket := c.listening()
			return port.err != nil && (tt.listen == nil || socket != listenState{})
		})
		lines := c.Status(t.Context(), false)
		text := fmt.Sprintf("%+v", lines)
		if len(lines) != len(tt.states) || !strings.Contains(text, tt.want) || !strings.Contains(text, "address already in use") {
			t.Errorf("got %s, want %q in it", text, tt.want)
		}
		for i, line := range lines {
			if line.State != tt.states[min(i, len(tt.states)-1)] {
				t.Errorf("%+v: want %v", line, tt.states)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestSnippetFromBefore: it is served, and whoever looks is told.
func TestSnippetFromBefore(t *testing.T) {
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	socket := filepath.Join(t.TempDir(), "health.sock")
	go func() { ended <- c.Serve(ctx, "127.0.0.1:0", socketAt(socket)) }()
	addr := listening(t, c)
	eventually(t, "the socket to be there", func() bool { _, s := c.listening(); return s.addr == socket })
	r := AsLoadBalancer(t.Context(), Options{Checker: c, PrivateIP: "10.0.0.5", Proxy: addr})
	if !r.Safe || !strings.Contains(r.Advice, "unix:"+socket+";") {
		t.Errorf("%+v", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestListenersDoNotShareTheirPlaces: all connections of one, held by slow clients, take none of the other.
func TestListenersDoNotShareTheirPlaces(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "health.sock")
	s := startServerAt(t, app(t, ok), "a.example", socket)
	ask := func(network, addr string) string {
		conn, err := net.DialTimeout(network, addr, time.Minute)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, "GET /agent-health HTTP/1.0\r\nHost: 10.0.0.5\r\n\r\n")
		var proto, status string
		fmt.Fscan(conn, &proto, &status)
		return status
	}
	for _, flooded := range [][4]string{{"tcp", s.addr, "unix", socket}, {"unix", socket, "tcp", s.addr}} {
		for range 3 * maxConns {
			if conn, err := net.DialTimeout(flooded[0], flooded[1], time.Minute); err == nil {
				defer conn.Close()
				fmt.Fprint(conn, "GET /agent-health HTTP/1.1\r\nX-Slow: ")
			}
		}
		for _, way := range [][2]string{{flooded[2], flooded[3]}, {flooded[0], flooded[1]}} {
			if got := ask(way[0], way[1]); got != "200" {
				t.Errorf("%s is flooded: %s answers %q", flooded[0], way[0], got)
			}
		}
	}
}

// TestSocketOfAKilledAgent stays where it is: nginx asks the application, and the next agent replaces it.
func TestSocketOfAKilledAgent(t *testing.T) {
	p := startProxied(t, "4700ms", "a.example", func(http.ResponseWriter, *http.Request) {})
	syscall.Kill(p.pid, syscall.SIGKILL)
	p.eventuallyAll(t, 200)
	c, _ := p.serveAgent(t, Config{Host: host("a.example")})
	eventually(t, "the next agent to be asked", func() bool {
		return p.check("10.0.0.5", "ELB-HealthChecker/2.0") == 200 && c.Figures().Asked > 0
	})
}
