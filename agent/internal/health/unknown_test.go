package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestWhatCannotBeToldIsWhatConfigurationSays: 503 with the reason, or 200, and never a claim that the
// application is healthy. That it does not answer, or fails, can be told in any case.
func TestWhatCannotBeToldIsWhatConfigurationSays(t *testing.T) {
	unreadable := errors.New("the environment cannot be read")
	hidden := func(context.Context) (string, error) { return "", unreadable }
	status := func(n int) string {
		return app(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) })
	}
	for name, tt := range map[string]struct {
		config Config
		known  int // what is told whatever configuration says; 0: nothing can be
		reason string
	}{
		"no address":                {Config{Host: host("a.example"), FindTarget: hidden}, 0, "address is not known: " + unreadable.Error()},
		"no Host":                   {Config{Host: hidden, Target: status(400)}, 0, unreadable.Error()},
		"no Host, and a redirect":   {Config{Host: hidden, Target: status(301)}, 0, unreadable.Error()},
		"a Host that is none":       {Config{Host: host("a b"), Target: status(200)}, 0, "health host"},
		"a fault of the agent":      {Config{Host: func(context.Context) (string, error) { panic("x") }, Target: status(200)}, 0, "fault of the agent"},
		"no Host, and a success":    {Config{Host: hidden, Target: status(200)}, 200, "200 OK"},
		"no Host, and a failure":    {Config{Host: hidden, Target: status(500)}, 500, "the application failed"},
		"no Host, and nobody there": {Config{Host: hidden, Target: "unix:/nonexistent/app.sock"}, 503, "no socket"},
		"refused with the Host":     {Config{Host: host("a.example"), Target: status(400)}, 400, "set health.host"},
	} {
		for _, healthy := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", healthy: ", healthy), func(t *testing.T) {
				tt.config.UnknownHealthy = healthy
				c := newChecker(t, tt.config)
				want := tt.known
				if want == 0 {
					want = map[bool]int{false: 503, true: 200}[healthy]
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest("GET", defaultPath, nil)
				r.Host = "10.0.0.5"
				c.Handler().ServeHTTP(w, r)
				v := c.Check(t.Context())
				if w.Code != want || v.Status != want || !strings.Contains(v.Reason, tt.reason) {
					t.Errorf("answered %d, with the verdict %+v; want %d and %q", w.Code, v, want, tt.reason)
				}
				if tt.known == 0 && (v.Healthy || !strings.Contains(v.Reason, "cannot tell") || !c.History()[0].Unknown) {
					t.Errorf("what cannot be told is told as %+v", v)
				}
				if f := c.Figures(); healthy && tt.known == 0 && f.State != Unknown {
					t.Errorf("the state became %s", f.State)
				}
			})
		}
	}
}

// TestAnsweringWithoutKnowingIsLoggedOnce, and that it has ended.
func TestAnsweringWithoutKnowingIsLoggedOnce(t *testing.T) {
	var log lockedBuffer
	err := errors.New("no environment")
	c := newChecker(t, Config{UnknownHealthy: true, Log: slog.New(slog.NewTextHandler(&log, nil)), Target: app(t, strict) + "/health/", Headers: production,
		Host: func(context.Context) (string, error) { return "www.example.com", err }})
	ask := func(host string) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", defaultPath, nil)
		r.Host = host
		r.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
		c.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for _, step := range []error{err, err, nil, nil} {
		if err = step; ask("10.0.0.5") != 200 {
			t.Error("a load balancer was refused")
		}
	}
	for _, want := range []string{"without knowing", "judged again"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q is told %d times:\n%s", want, n, log.String())
		}
	}
}

// TestAnsweringWithoutKnowingIsNotSafe: load balancers hear 200, and nobody knows whether the set-up works.
func TestAnsweringWithoutKnowingIsNotSafe(t *testing.T) {
	c := newChecker(t, Config{UnknownHealthy: true, FindTarget: func(context.Context) (string, error) { return "", errors.New("no environment") }})
	s := httptest.NewServer(c.Handler())
	defer s.Close()
	r := AsLoadBalancer(t.Context(), Options{Checker: c, PrivateIP: "10.0.0.5", Proxy: s.Listener.Addr().String()})
	if r.Safe || r.Asks[0].Status != 200 || r.Asks[0].Fault != "" || r.Verdict.State != Unknown {
		t.Errorf("%+v", r)
	}
}

// TestWhoHasThePortIsNotTakenForTheAgent: the snippet is in place, and leads to somebody else. Nobody
// should look for what is wrong with the snippet.
func TestWhoHasThePortIsNotTakenForTheAgent(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(ok))
	defer other.Close()
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example")})
	c.retry = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	addr := other.Listener.Addr().String()
	go func() { ended <- c.Serve(ctx, addr, nil) }()
	eventually(t, "the fault to be shown", func() bool { port, _ := c.listening(); return port.err != nil })
	r := AsLoadBalancer(t.Context(), Options{Checker: c, PrivateIP: "10.0.0.5", Proxy: addr})
	if r.Safe || r.Asks[0].Status != 200 || !strings.Contains(r.Asks[0].Fault, "address already in use") || strings.Contains(r.Asks[0].Fault, "snippet") {
		t.Errorf("%+v", r.Asks[0])
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
