package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"beanstalk-agent/agent/internal/endpoint"
	"beanstalk-agent/packaging/testbed/planted"
)

// TestFallbackNeverBreaksNginx: values that nginx would read as something else are not written.
func TestFallbackNeverBreaksNginx(t *testing.T) {
	tcp := endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:8000", Path: "/health/"}
	if got := fallback("www.example.com", tcp); strings.Count(got, "set $agent_health_") != 3 {
		t.Errorf("got %q", got)
	}
	for _, bad := range []struct {
		host string
		t    endpoint.Endpoint
	}{
		{"a\"; return 200; #", tcp},
		{"a.example", endpoint.Endpoint{Network: "tcp", Address: "app.internal:8000", Path: "/"}},
		{"a.example", endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:8000", Path: "/$host"}},
		{"a.example", endpoint.Endpoint{Network: "tcp", Address: "127.0.0.1:8000", Path: "/a;b"}},
		{"a.example", endpoint.Endpoint{Network: "unix", Address: "/run/a b.sock", Path: "/"}},
		{"a.example", endpoint.Endpoint{Network: "unix", Address: "/run/a\"}.sock", Path: "/"}},
	} {
		if got := fallback(bad.host, bad.t); got != "" {
			t.Errorf("%q, %+v: wrote %q", bad.host, bad.t, got)
		}
	}
}

// FuzzFallback: whatever is configured, nginx accepts the file: each line is one plain directive.
func FuzzFallback(f *testing.F) {
	f.Add("www.example.com", "http://127.0.0.1:8000/health/?x=1")
	f.Add("a", "unix:/run/puma/my_app.sock:/up")
	const good, target = "www.example.com", "http://127.0.0.1:8000/health"
	for _, host := range []string{`a"`, "a;return 200", "$host", "[::1]:80", "a b", `a\\`, "a\n"} { // one fault at a time
		f.Add(host, target)
	}
	for _, address := range []string{"http://h:1/;", "http://h:1/$host", "http://h:1/%24", "http://h:1/{a}", "http://[fe80::1%25eth0]:8000/", "http://u:p@h/", "unix:/run/a.sock;b:/", "unix:/run/a\"b:/", "unix:/run/$host:/up", "unix:/run/a.sock:/'"} {
		f.Add(good, address)
	}
	f.Fuzz(func(t *testing.T, host, address string) {
		target, err := endpoint.Parse(address)
		if err != nil {
			return
		}
		text := fallback(host, target)
		if text == "" {
			return
		}
		lines, values := strings.Split(text, "\n"), 3
		if host == "" {
			values = 2
		}
		if len(lines) != values+2 || strings.Count(text, `"`) != 2*values || strings.Count(text, ";") != values || strings.Count(text, "$") != values || strings.ContainsAny(text[1:], "\\{}'#") {
			t.Fatalf("%q, %q: %q", host, address, text)
		}
	})
}

// TestNginxAcceptsFallbacks: the snippet with the kept file is a valid configuration, for each kind
// of target.
func TestNginxAcceptsFallbacks(t *testing.T) {
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	for _, address := range []string{"http://127.0.0.1:8000/health/", "http://[::1]:5000/up", "unix:/run/puma/my_app.sock:/up"} {
		target, err := endpoint.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		s := &stack{dir: t.TempDir(), app: "127.0.0.1:8000", agent: "127.0.0.1:8127", nginx: "127.0.0.1:" + freePort(t)}
		s.writeNginx(t)
		if err := os.WriteFile(filepath.Join(s.dir, "nginx-health.conf"), []byte(fallback("www.example.com", target)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("nginx", "-t", "-q", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", address, err, out)
		}
	}
}

// TestNginxFallsBackToASocket: nginx finds a unix target through the kept values, with the path
// and Host that the agent used.
func TestNginxFallsBackToASocket(t *testing.T) {
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	s := &stack{dir: t.TempDir(), app: "127.0.0.1:" + freePort(t), agent: "127.0.0.1:" + freePort(t), nginx: "127.0.0.1:" + freePort(t)}
	s.openToNginx()
	socket := filepath.Join(s.dir, "app.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	os.Chmod(socket, 0o777)
	go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "www.example.com" || r.URL.Path != "/up" || r.Header.Get("X-Forwarded-Proto") != "https" || r.Header.Get("Cookie") != "" {
			w.WriteHeader(400)
		}
	}))
	c := newChecker(t, Config{Target: "unix:" + socket + ":/up", Host: host("www.example.com"), NginxFile: filepath.Join(s.dir, "nginx-health.conf")})
	if v := c.Check(t.Context()); v.Status != 400 { // without X-Forwarded-Proto
		t.Fatalf("the agent's own probe: %+v", v)
	}
	s.writeNginx(t)
	s.proxy = startProcess(t, s.dir, nil, "nginx", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
	t.Cleanup(s.proxy.stop)
	eventually(t, "nginx to fall back", func() bool { return s.get(defaultPath, "10.0.0.5", http.Header{"Cookie": {"a=b"}}) == 200 })
}

// TestNginxAsksInTheAgentsPlace: an application that is named instead of numbered, or needs no Host, is found; of
// a stranger's request nothing reaches it but a load balancer's name; and what the site has set for all its pages,
// as newer nginx has by itself, changes nothing.
func TestNginxAsksInTheAgentsPlace(t *testing.T) {
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	var status atomic.Int32
	var seen atomic.Value
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(app(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(fmt.Sprint(r.Method, " ", r.URL, " ", r.Proto, " ", r.Host))
		w.WriteHeader(int(status.Load()))
	}), "http://"))
	for name, tt := range map[string]struct{ target, host, want string }{
		"a name":  {"http://localhost:" + port + "/up", "www.example.com", "GET /up HTTP/1.0 www.example.com"},
		"no Host": {"http://127.0.0.1:" + port + "/up", "", "GET /up HTTP/1.0 10.0.0.5"},
	} {
		t.Run(name, func(t *testing.T) {
			status.Store(200)
			s := &stack{dir: t.TempDir(), app: "127.0.0.1:" + freePort(t), agent: "127.0.0.1:" + freePort(t), nginx: "127.0.0.1:" + freePort(t)}
			s.openToNginx()
			s.writeNginx(t)
			main, err := os.ReadFile(filepath.Join(s.dir, "nginx.conf"))
			if err == nil {
				err = os.WriteFile(filepath.Join(s.dir, "nginx.conf"), []byte(strings.Replace(string(main), "    server {", `
    proxy_http_version 1.1;
    proxy_cache_path cache keys_zone=site:1m;
    proxy_cache site;
    proxy_cache_methods GET POST;
    proxy_cache_valid any 1h;
    proxy_ignore_headers Cache-Control Expires;
    server {`, 1)), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			c, stop := s.serveAgent(t, Config{Target: tt.target, Host: host(tt.host)})
			c.Check(t.Context())
			s.proxy = startProcess(t, s.dir, nil, "nginx", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
			t.Cleanup(s.proxy.stop)
			eventually(t, "nginx to answer", func() bool { return s.check("10.0.0.5", "ELB-HealthChecker/2.0") == 200 })
			p := proxied{stack: s}
			if got, err := p.status("GET /agent-health HTTP/1.0\r\n\r\n"); got != "200" {
				t.Errorf("without any Host: %s, %v", got, err)
			}
			status.Store(500)
			s.checkAll(t, "not kept by nginx", 500)
			stop()
			for _, now := range []int{200, 500} {
				status.Store(int32(now))
				got, err := p.status("DELETE /agent-health?evil=1 HTTP/1.1\r\nHost: 10.0.0.5\r\nCookie: evil\r\nContent-Length: 4\r\n\r\nevil")
				if err != nil || got != fmt.Sprint(now) || seen.Load() != tt.want {
					t.Errorf("answered %s, %v, want %d; the application saw %q, want %q", got, err, now, seen.Load(), tt.want)
				}
				s.checkAll(t, "without the agent", now)
			}
		})
	}
}

// TestFallbackIsKeptBeforeAnyoneAsks: a first deployment writes the environment after the agent's
// start and a moment before it starts nginx. Where the environment can be read and has no Host, it is
// looked for rarely.
func TestFallbackIsKeptBeforeAnyoneAsks(t *testing.T) {
	for name, tt := range map[string]struct {
		before error
		within time.Duration
		most   int // looks in five minutes
	}{
		"not deployed":      {errors.New("the application has not been deployed yet"), 150 * time.Millisecond, 3002},
		"deployed, no Host": {nil, 1500 * time.Millisecond, 302},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "nginx-health.conf")
				deployed, asked := time.Now().Add(5*time.Minute), 0
				c, err := New(Config{Target: "http://127.0.0.1:8000/up", NginxFile: file, Log: planted.Log(t), Host: func(context.Context) (string, error) {
					asked++
					if time.Now().Before(deployed) {
						return "", tt.before
					}
					return "www.example.com", nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go c.keepFallbackEarly(ctx)
				time.Sleep(5*time.Minute + tt.within)
				synctest.Wait()
				if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "www.example.com") {
					t.Errorf("%s after the deployment: %q, %v", tt.within, text, err)
				}
				if asked > tt.most {
					t.Errorf("the environment was read %d times", asked)
				}
			})
		})
	}
}
