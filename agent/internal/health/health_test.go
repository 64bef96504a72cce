package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/packaging/testbed/planted"
)

// newChecker returns a Checker of c with a log of the test's own, a short time limit and no caching, where c
// leaves them open.
func newChecker(t *testing.T, c Config) *Checker {
	t.Helper()
	if c.Log == nil {
		c.Log = planted.Log(t)
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Lifetime == 0 {
		c.Lifetime = -1
	}
	checker, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	checker.machineHas = ofThisMachine
	t.Cleanup(checker.probes.Wait)
	return checker
}

func app(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func host(name string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return name, nil }
}

// TestLogDoesNotSayTheHost: it may be a value of the application's environment. What is told to
// whoever asks has it, or nobody could see what is wrong with it.
func TestLogDoesNotSayTheHost(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) },
		"sent elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
		},
		"asked nobody": nil,
	} {
		var log lockedBuffer
		c := newChecker(t, Config{Target: "http://127.0.0.1:1/", Host: host(planted.Value + ".example"), Log: planted.Log(t, &log)})
		if answer != nil {
			c.cfg.Target = app(t, answer)
		}
		v := c.Check(t.Context())
		if answer != nil && !strings.Contains(v.Reason, planted.Value) {
			t.Errorf("%s: who asks is told %q", name, v.Reason)
		}
		if said := log.String(); !strings.Contains(said, "application is unhealthy") || strings.Contains(said, planted.Value) {
			t.Errorf("%s: logged %q", name, said)
		}
	}
	if err := endpoint.CheckHost(planted.Value + "/"); err == nil || strings.Contains(err.Error(), planted.Value) {
		t.Errorf("what is no host name: %v", err)
	}
}

// strict behaves as a framework that validates Host and wants https.
func strict(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Host != "www.example.com":
		http.Error(w, "Bad Request", 400)
	case r.Header.Get("X-Forwarded-Proto") != "https":
		http.Redirect(w, r, "https://www.example.com"+r.URL.Path, http.StatusMovedPermanently)
	case r.URL.Path == "/health":
		http.Redirect(w, r, "/health/", http.StatusMovedPermanently)
	case r.URL.Path != "/health/":
		http.NotFound(w, r)
	}
}

func TestReasonsSayWhatToDo(t *testing.T) {
	https := map[string]string{"X-Forwarded-Proto": "https"}
	base := app(t, strict)
	for _, tt := range []struct {
		name, path, host string
		headers          map[string]string
		status           int
		healthy          bool
		reason           string
	}{
		{"all right", "/health/", "www.example.com", https, 200, true, "200 OK"},
		{"wrong host", "/health/", "10.0.0.5", https, 400, false, `refuses Host "10.0.0.5" (ALLOWED_HOSTS?): set health.host`},
		{"no https header", "/health/", "www.example.com", nil, 301, false, "wants X-Forwarded-Proto: https"},
		{"no final slash", "/health", "www.example.com", https, 301, false, "needs its final slash"},
		{"no such page", "/healthz", "www.example.com", https, 404, false, "no page at /healthz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChecker(t, Config{Target: base + tt.path, Host: host(tt.host), Headers: tt.headers})
			v := c.Check(t.Context())
			if v.Status != tt.status || v.Healthy != tt.healthy || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("got %+v, want status %d, healthy %v, reason with %q", v, tt.status, tt.healthy, tt.reason)
			}
		})
	}
}

func TestNoAnswerIs503WithTheReason(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	hung := app(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	halfway := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for name, tt := range map[string]struct{ target, reason string }{
		"refused":        {"http://" + closed.Addr().String() + "/", "connection refused on " + closed.Addr().String()},
		"no socket":      {"unix:/nonexistent/app.sock:/", "no socket at /nonexistent/app.sock"},
		"hung":           {hung, "no answer within 300ms"},
		"body not whole": {halfway, "OK, but no answer within 300ms"},
		"not http":       {rawServer(t, "SSH-2.0-OpenSSH\r\n\r\n"), "not HTTP"},
		"closes at once": {rawServer(t, ""), "closed the connection"},
		"informational":  {rawServer(t, "HTTP/1.1 099 Odd\r\n\r\n"), "not a final HTTP status"},
		"endless header": {rawServer(t, "HTTP/1.1 200 OK\r\nX-A: "+strings.Repeat("a", 1<<20)), "not HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker(t, Config{Target: tt.target, Host: host("www.example.com"), Timeout: 300 * time.Millisecond})
			v := c.Check(t.Context())
			if v.Status != 503 || v.Healthy || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("got %+v, want 503 with %q", v, tt.reason)
			}
		})
	}
}

// rawServer answers each connection with answer, whatever was asked.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			fmt.Fprint(conn, answer)
			conn.Close()
		}
	}()
	return "http://" + ln.Addr().String() + "/"
}

// TestManyAskersOneRequest: a hundred who ask at once cost the application one request, and so do
// all who ask within the verdict's lifetime.
func TestManyAskersOneRequest(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	target := app(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); <-release })
	c := newChecker(t, Config{Target: target, Host: host("a.example"), Lifetime: time.Hour})
	var clients sync.WaitGroup
	var healthy atomic.Int32
	for range 100 {
		clients.Go(func() {
			if c.Check(t.Context()).Healthy {
				healthy.Add(1)
			}
		})
	}
	close(release)
	clients.Wait()
	c.Check(t.Context())
	if asked.Load() != 1 || healthy.Load() != 100 {
		t.Errorf("application asked %d times, %d of 100 told healthy; want 1 and 100", asked.Load(), healthy.Load())
	}
}

// TestWithoutHostTheApplicationAnswers: an unset value changes nothing for a load balancer: its
// own address is sent on and the application's status comes back, each address by itself.
func TestWithoutHostTheApplicationAnswers(t *testing.T) {
	target := app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "10.0.0.5" {
			w.WriteHeader(400)
		}
	})
	c := newChecker(t, Config{Target: target, Host: host(""), Lifetime: time.Hour, Failures: 3})
	for hostname, want := range map[string]int{"10.0.0.5": 200, "10.0.0.6": 400} {
		r := httptest.NewRequest("GET", defaultPath, nil)
		r.Host = hostname
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("Host %q: got %d, want %d", hostname, w.Code, want)
		}
	}
}

func TestHostIsReadAgainForEachProbe(t *testing.T) {
	target := app(t, strict)
	name := "wrong.example"
	c := newChecker(t, Config{Target: target + "/health/", Headers: map[string]string{"x-forwarded-proto": "https"},
		Host: func(context.Context) (string, error) { return name, nil }})
	if v := c.Check(t.Context()); v.Status != 400 {
		t.Errorf("got %+v, want 400", v)
	}
	name = "www.example.com"
	if v := c.Check(t.Context()); !v.Healthy {
		t.Errorf("got %+v, want healthy", v)
	}
}

func TestHandlerAnswersOnePathOnly(t *testing.T) {
	for earlier, rows := range map[string]map[string]int{
		"": {"GET /agent-health": 200, "HEAD /agent-health": 200, "GET /agent-health?x=1": 200, "POST /agent-health": 405,
			"GET /": 404, "GET /agent-health/": 404, "GET //agent-health": 404, "GET /agent-healthz": 404, "GET /health": 404},
		// An upgrade does not make an instance unhealthy whose snippet and load balancer are from before.
		"/health": {"GET /agent-health": 200, "GET /health": 200, "POST /health": 405, "GET /health/": 404, "GET ": 404},
	} {
		c := newChecker(t, Config{Target: app(t, func(http.ResponseWriter, *http.Request) {}), Host: host("a.example"), EarlierPath: earlier})
		for request, want := range rows {
			method, path, _ := strings.Cut(request, " ")
			w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/", nil)
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
			c.Handler().ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s, earlier path %q: got %d, want %d", request, earlier, w.Code, want)
			}
		}
	}
}

// TestDrainAnswers503: to each, and a load balancer's check is said to be one.
func TestDrainAnswers503(t *testing.T) {
	draining, balancers := true, 0
	c := newChecker(t, Config{Target: app(t, func(http.ResponseWriter, *http.Request) {}), Host: host("a.example"), Draining: func(balancer bool) bool {
		if balancer {
			balancers++
		}
		return draining
	}})
	get := func(agent string) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", defaultPath, nil)
		r.Host = "10.0.0.5"
		r.Header.Set("User-Agent", agent)
		c.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for agent, want := range map[string]int{"ELB-HealthChecker/2.0": 1, "ELB-HealthChecker/1.0": 1, "curl/8": 0} {
		before := balancers
		if got := get(agent); got != 503 || balancers-before != want {
			t.Errorf("draining, %s is answered %d; %d load balancers counted, want %d", agent, got, balancers-before, want)
		}
	}
	draining = false
	if got := get(""); got != 200 {
		t.Errorf("no longer draining: got %d, want 200", got)
	}
}

func TestServeAnswersAndEnds(t *testing.T) {
	c := newChecker(t, Config{Target: app(t, func(http.ResponseWriter, *http.Request) {}), Host: host("a.example")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, "127.0.0.1:0", nil) }()
	resp, err := http.Get("http://" + listening(t, c) + defaultPath)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := c.Serve(t.Context(), "0.0.0.0:0", nil); err == nil {
		t.Error("Serve answers the world")
	}
}

func listening(t *testing.T, c *Checker) (addr string) {
	t.Helper()
	eventually(t, "the listener to be up", func() bool { port, _ := c.listening(); addr = port.addr; return addr != "" })
	return addr
}

// eventually waits until cond holds and fails the test after a minute.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestFiguresWithoutHost show what load balancers hear, whatever strangers ask for.
func TestFiguresWithoutHost(t *testing.T) {
	c := newChecker(t, Config{Target: app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "10.0.0.5" {
			w.WriteHeader(400)
		}
	})})
	ask := func(host, agent string) {
		r := httptest.NewRequest("GET", defaultPath, nil)
		r.Host = host
		r.Header.Set("User-Agent", agent)
		c.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}
	ask("evil.example", "curl/8")
	if f := c.Figures(); f.State != Unknown || f.Probes != 0 || f.Asked != 1 {
		t.Errorf("after a stranger: %+v", f)
	}
	if v := c.Check(t.Context()); v.Healthy || len(c.Samples(nil)) != 1 { // an operator's: 400 to its Host
		t.Errorf("nothing is known, and there are figures %v", c.Samples(nil))
	}
	ask("10.0.0.5", "ELB-HealthChecker/2.0")
	ask("evil.example", "curl/8")
	ask("10.0.0.6", "ELB-HealthChecker/2.0")
	if f := c.Figures(); f.State != Healthy || f.Probes != 2 || f.LastProbe.IsZero() {
		t.Errorf("after a load balancer: %+v", f)
	}
}

// TestHostThatCannotBeToldIsTheLastOne: an environment that cannot be read for a moment turns nothing
// red; one that can be read and has no Host any more counts.
func TestHostThatCannotBeToldIsTheLastOne(t *testing.T) {
	name, err := "", errors.New("get-config timed out")
	c := newChecker(t, Config{Target: app(t, strict) + "/health/", Headers: production,
		Host: func(context.Context) (string, error) { return name, err }})
	own := func() int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", defaultPath, nil)
		r.Host = "10.0.0.5"
		c.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for _, step := range []struct {
		name string
		err  error
		want int
	}{
		{"", err, 503}, // never known, and the client's own is refused
		{"www.example.com", nil, 200},
		{"", err, 200},
		{"", nil, 400},
		{"", err, 400},
	} {
		if name, err = step.name, step.err; own() != step.want {
			t.Errorf("%q, %v: want %d", name, err, step.want)
		}
	}
}

// TestSlowHostIsNoFailure: one that is not told in time leaves the application time to answer, and no
// goroutine behind. Without one known there is no verdict.
func TestSlowHostIsNoFailure(t *testing.T) {
	slow := false
	c := newChecker(t, Config{Target: app(t, strict) + "/health/", Headers: production, Timeout: 2 * time.Second,
		Host: func(ctx context.Context) (string, error) {
			if slow {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "www.example.com", nil
		}})
	for _, slow = range []bool{false, true} {
		if v := c.Check(t.Context()); !v.Healthy {
			t.Errorf("slow %v: %+v", slow, v)
		}
	}
}
