package health

import (
	"bytes"
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
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/packaging/testbed/planted"
)

func ok(http.ResponseWriter, *http.Request) {}

// TestTakenPortIsTriedAgain: it is told once, ends nothing, and the listener comes up once the port
// is free.
func TestTakenPortIsTriedAgain(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example"), Log: planted.Log(t, &log)})
	c.retry = 20 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, other.Addr().String(), nil) }()
	eventually(t, "the fault to be shown", func() bool { port, _ := c.listening(); return port.err != nil })
	other.Close()
	if got := listening(t, c); got != other.Addr().String() {
		t.Errorf("listening on %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n := strings.Count(log.String(), "not up"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestCheckListen(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:8127": true, "[::1]:8127": true, "localhost:8127": true, "127.5.5.5:1": true,
		"0.0.0.0:8127": false, ":8127": false, "10.0.0.5:8127": false, "example.com:80": false, "127.0.0.1": false, "[::]:80": false,
	} {
		if err := CheckListen(addr); (err == nil) != want {
			t.Errorf("CheckListen(%q) = %v", addr, err)
		}
	}
}

// TestAnswerIsNeverOlderThanItsLifetime: a burst each tenth of a second for a minute costs one
// request a second, and no verdict given is a second old.
func TestAnswerIsNeverOlderThanItsLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Target: "http://127.0.0.1:1/", Host: host("a.example"), Log: planted.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int32
		c.prober = newProber(endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:1", Path: "/"}, c.cfg)
		c.prober.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			asked.Add(1)
			return nil, errors.New("nobody there")
		}
		for range 600 {
			for range 20 {
				if v := c.Check(t.Context()); time.Since(v.At) >= time.Second {
					t.Fatalf("a verdict %s old was given", time.Since(v.At))
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := asked.Load(); n != 60 {
			t.Errorf("asked %d times in a minute, want 60", n)
		}
		if h := c.History(); len(h) != 51 || !h[0].At.Before(h[50].At) { // the first began the outage
			t.Errorf("history of %d results, from %v to %v", len(h), h[0].At, h[len(h)-1].At)
		}
	})
}

// TestTargetIsFoundForEachProbe: not known at first, then known, then elsewhere; one that cannot be
// told any more is the last one.
func TestTargetIsFoundForEachProbe(t *testing.T) {
	address, err := "", errors.New("the application has not been deployed yet")
	c := newChecker(t, Config{Host: host("a.example"), FindTarget: func(context.Context) (string, error) { return address, err }})
	if v := c.Check(t.Context()); v.Status != 503 || !strings.Contains(v.Reason, "not been deployed yet") {
		t.Errorf("not known: %+v", v)
	}
	address, err = app(t, ok), nil
	if v := c.Check(t.Context()); !v.Healthy {
		t.Errorf("known: %+v", v)
	}
	address = app(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	if v := c.Check(t.Context()); v.Status != 500 {
		t.Errorf("moved: %+v", v)
	}
	address, err = "", errors.New("the environment cannot be read")
	if v := c.Check(t.Context()); v.Status != 500 {
		t.Errorf("not told for a moment: %+v", v)
	}
}

// TestOnlyTheProbeReachesTheApplication: of a client's request, nothing but its Host when none is
// configured and the name of a load balancer; and of the application's answer, only the status
// goes back.
func TestOnlyTheProbeReachesTheApplication(t *testing.T) {
	for name, tt := range map[string]struct{ configured, agent, wantHost, wantAgent string }{
		"host configured":     {"www.example.com", "ELB-HealthChecker/2.0", "www.example.com", agentName},
		"none, load balancer": {"", "ELB-HealthChecker/2.0", "10.0.0.5", "ELB-HealthChecker/2.0"},
		"none, someone else":  {"", "evil\" or ELB-HealthChecker/2.0", "10.0.0.5", agentName},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan *http.Request, 1)
			c := newChecker(t, Config{Host: host(tt.configured), Target: app(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Powered-By", "planted-5c1e")
				w.Header().Set("Set-Cookie", "planted-5c1e=1")
				w.Write([]byte("planted-5c1e"))
				got <- r
			}) + "/up?deep=1"})
			r := httptest.NewRequest("GET", "/agent-health?q=evil", strings.NewReader("evil"))
			r.Host = "10.0.0.5"
			for _, h := range []string{"Cookie", "X-Forwarded-For", "Authorization", "X-Evil", "Accept"} {
				r.Header.Set(h, "evil")
			}
			if tt.configured == "" { // else the application is not asked
				r.Header.Del("X-Forwarded-For")
			}
			r.Header.Set("User-Agent", tt.agent)
			w := httptest.NewRecorder()
			c.Handler().ServeHTTP(w, r)
			app := <-got
			if app.Host != tt.wantHost || app.UserAgent() != tt.wantAgent || app.URL.String() != "/up?deep=1" || len(app.Header) != 2 || !app.Close {
				t.Errorf("the application saw %s %s, Host %s, %v", app.Method, app.URL, app.Host, app.Header)
			}
			if answer := w.Body.String() + strings.Join(w.Header()["Set-Cookie"], "") + w.Header().Get("X-Powered-By"); answer != "200 OK\n" {
				t.Errorf("a stranger was told %q", answer)
			}
		})
	}
}

// A Host that nobody has set may be why a page is refused, in any of the ways that frameworks have: Rails answers 403
// with an empty body in production, applications with a site for each name 404, as with Flask's SERVER_NAME. With a
// Host that is set it is the page.
func TestRefusalsOfAHostThatNobodySet(t *testing.T) {
	for _, tt := range []struct {
		status             int
		names              []string
		unset, set, answer string
	}{
		{400, nil, `400 Bad Request: perhaps because of Host "127.0.0.1`, `400: the application refuses Host "www.example.com"`, ""},
		{403, nil, `403 Forbidden: perhaps because of Host "127.0.0.1`, "403 Forbidden: /up wants a login", ""},
		{404, nil, `404 Not Found: perhaps because of Host "127.0.0.1`, "404 Not Found: the application has no page at /up", ""},
		{421, nil, "421 Misdirected Request: perhaps because of Host", "421: the application does not answer for Host", ""},
		{401, []string{"www.good.example"}, "401 Unauthorized: /up wants a login", "401 Unauthorized: /up wants a login", ""},
		{503, []string{"www.good.example"}, "the application failed", "the application failed", ""},
		{403, []string{"bad name", "www.good.example"}, `which nobody has set, and 200 with "www.good.example": set HEALTH_HOST`, "wants a login", "www.good.example"},
		{404, []string{"www.bad.example", "www.good.example"}, `(with Host "www.bad.example" the answer is the same)`, "has no page", "www.good.example"},
	} {
		target := app(t, func(w http.ResponseWriter, r *http.Request) {
			if tt.answer == "" || r.Host != tt.answer {
				w.WriteHeader(tt.status)
			}
		}) + "/up"
		names := func(context.Context) []string { return tt.names }
		if v := newChecker(t, Config{Target: target, Names: names}).Check(t.Context()); !strings.Contains(v.Reason, tt.unset) || v.Status != tt.status {
			t.Errorf("%d, no Host: %d %q, want %q", tt.status, v.Status, v.Reason, tt.unset)
		}
		if v := newChecker(t, Config{Target: target, Host: host("www.example.com"), Names: names}).Check(t.Context()); !strings.Contains(v.Reason, tt.set) {
			t.Errorf("%d, Host set: %q, want %q", tt.status, v.Reason, tt.set)
		}
	}
}

// Load balancers' checks cost the application one request, whatever it answers.
func TestNamesAreTriedForOperatorsOnly(t *testing.T) {
	asked := 0
	c := newChecker(t, Config{Lifetime: -1, Names: func(context.Context) []string { return []string{"www.example.com"} },
		Target: app(t, func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(403) })})
	r := httptest.NewRequest("GET", defaultPath, nil)
	r.Host = "127.0.0.1"
	r.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	if c.Handler().ServeHTTP(httptest.NewRecorder(), r); asked != 1 {
		t.Errorf("for a load balancer the application was asked %d times", asked)
	}
	if c.Check(t.Context()); asked != 3 {
		t.Errorf("and for an operator %d times, want 2 more", asked)
	}
}

// A target that leads through nginx to the agent's own path would wait for itself.
func TestTargetThatLeadsBack(t *testing.T) {
	for target, refused := range map[string]bool{
		"http://127.0.0.1:80/agent-health": true, "http://localhost/agent-health?x=1": true, "http://127.0.0.1/agent-health": true,
		"http://127.0.0.1:80/": false, "http://127.0.0.1:80/health": false, "http://127.0.0.1:8000/agent-health": false,
		"unix:/run/app.sock:/agent-health": false,
	} {
		faults := ""
		Config{Target: target, Path: defaultPath, Expect: "200", Method: "GET"}.Check(func(key, format string, a ...any) { faults += key + fmt.Sprintf(format, a...) })
		if refused != strings.Contains(faults, "health.target") {
			t.Errorf("%s: %q", target, faults)
		}
	}
	var h http.Handler
	loop := app(t, func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) })
	c := newChecker(t, Config{Target: loop + defaultPath, Host: host("a.example")})
	h = c.Handler()
	if v := c.Check(t.Context()); v.Status != 508 || !strings.Contains(v.Reason, "asked itself") {
		t.Errorf("a loop: %+v", v)
	}
}

func TestRedirectsAreExplained(t *testing.T) {
	for _, tt := range []struct{ to, want string }{
		{"https://www.example.com/up", "although X-Forwarded-Proto: https was sent"},
		{"/up/", "set health.target to"},
		{"https://example.com/up", "set health.host to example.com"},
		{"/accounts/login/?next=/up&token=planted-5c1e", "wants a login"},
		{"/elsewhere", "redirects are not followed"},
		{"https://user:planted-5c1e@www.example.com/other", "redirects are not followed"},
		{"http://[bad", "cannot be read"},
	} {
		c := newChecker(t, Config{Host: host("www.example.com"), Headers: map[string]string{"X-Forwarded-Proto": "https"},
			Target: app(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", tt.to); w.WriteHeader(302) }) + "/up?key=planted-5c1e"})
		v := c.Check(t.Context())
		if v.Status != 302 || !strings.Contains(v.Reason, tt.want) || strings.Contains(fmt.Sprint(v, c.History()), "planted-5c1e") {
			t.Errorf("to %s: %+v, want %q in it", tt.to, v, tt.want)
		}
		if v.Host != "www.example.com" || !strings.HasSuffix(v.Target, "/up") {
			t.Errorf("it does not say who was asked: %+v", v)
		}
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, tt := range []struct {
		status     int
		body, want string
	}{
		{403, "Blocked hosts: www.example.com", `refuses Host "www.example.com"`}, // Rails before 7
		{403, "<h1>Blocked host</h1>", `refuses Host "www.example.com"`},
		{403, "planted-5c1e", "wants a login"},
		{401, "", "wants a login"},
		{405, "", "does not allow GET"},
		{421, "", "set health.host"},
		{429, "", "exempt the health path"},
		{418, "planted-5c1e", "418 I'm a teapot is not an expected status"},
		{502, "planted-5c1e", "502 Bad Gateway: the application failed"},
	} {
		c := newChecker(t, Config{Host: host("www.example.com"), Target: app(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			w.Write([]byte(tt.body))
		})})
		v := c.Check(t.Context())
		if v.Status != tt.status || !strings.Contains(v.Reason, tt.want) || strings.Contains(v.Reason, "planted-5c1e") {
			t.Errorf("%d %q: %d %q, want %q in it", tt.status, tt.body, v.Status, v.Reason, tt.want)
		}
	}
}

// TestHostThatCannotBeSentIsNamed: it came from the application's environment, so nobody checked it.
func TestHostThatCannotBeSentIsNamed(t *testing.T) {
	for _, bad := range []string{"https://www.example.com", "a b", "a\r\nX-Evil: 1", strings.Repeat("a", 300)} {
		c := newChecker(t, Config{Target: app(t, ok), Host: host(bad)})
		if v := c.Check(t.Context()); v.Healthy || v.Status != 503 || !strings.Contains(v.Reason, "health host") {
			t.Errorf("%q: %+v", bad, v)
		}
	}
}

// TestPanicIsAFailedProbe: whoever waits is answered, and the next probe is asked as usual.
func TestPanicIsAFailedProbe(t *testing.T) {
	first := true
	c := newChecker(t, Config{Target: app(t, ok), Host: func(context.Context) (string, error) {
		if first {
			first = false
			panic("environment")
		}
		return "www.example.com", nil
	}})
	if v := c.Check(t.Context()); v.Healthy || !strings.Contains(v.Reason, "fault of the agent") {
		t.Errorf("got %+v", v)
	}
	if v := c.Check(t.Context()); !v.Healthy {
		t.Errorf("afterwards: %+v", v)
	}
}

func TestNewTellsAllFaults(t *testing.T) {
	_, err := New(Config{Target: "https://x/", Method: "POST", Path: "health", Timeout: -1, Headers: map[string]string{"Host": "a"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"own port", `"POST"`, `"health"`, "-1ns", "health.host", "Config.Log"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}
