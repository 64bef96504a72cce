package health

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/packaging"
	"beanstalk-agent/packaging/testbed/shapes"
)

// TestShapesBehindNginx deploys each shape of application with what agent install --into writes, before the real nginx:
// nginx accepts it, the site is up, a check that was there answers as before, and a load balancer hears the truth from
// the agent, or the operator why it does not.
func TestShapesBehindNginx(t *testing.T) {
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	need(t, os.Getuid() == 0, "root, as whom nginx writes its logs")
	for _, s := range shapes.All {
		t.Run(s.Name, func(t *testing.T) { startShape(t, s).claims(t) })
	}
}

// site is a shape deployed, with an application that knows its Host and can be ended.
type site struct {
	*stack
	shape shapes.Shape
	ended func()
}

func startShape(t *testing.T, shape shapes.Shape) site {
	t.Helper()
	strictly := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != "www.example.com":
			w.WriteHeader(400)
		case r.URL.Path != "/" && r.URL.Path != "/health":
			w.WriteHeader(404)
		}
	}))
	t.Cleanup(strictly.Close)
	socket := httptest.NewServer(http.HandlerFunc(ok)) // of websockets: up, whatever happens to the site
	t.Cleanup(socket.Close)
	s := site{shape: shape, ended: strictly.Close, stack: &stack{dir: t.TempDir(), nginx: "127.0.0.1:" + freePort(t), agent: "127.0.0.1:" + freePort(t),
		app: strictly.Listener.Addr().String()}}
	s.openToNginx()
	repository := t.TempDir()
	if err := shape.Write(repository); err != nil {
		t.Fatal(err)
	}
	if _, err := packaging.InstallInto(repository, false); err != nil {
		t.Fatal(err)
	}
	edit := strings.NewReplacer("listen 80", "listen "+s.nginx, "127.0.0.1:8000", s.app, "127.0.0.1:9001", socket.Listener.Addr().String(),
		"/run/agent/health.sock", s.socket(), "/var/lib/agent/", s.dir+"/", "/run/agent/drain", s.drainFile(),
		"/var/log/nginx/", s.dir+"/", "/var/run/nginx.pid", "nginx.pid", "user nginx;", "daemon off;", "include mime.types;", "",
		"    include conf.d/*.conf;", "    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n    include conf.d/*.conf;")
	if err := shapes.Deploy(s.dir, "../../../packaging/testbed/instance/nginx", repository, edit.Replace); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "healthd"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(s.dir, "healthd"), 0o777)
	if out, err := exec.Command("nginx", "-t", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log").CombinedOutput(); err != nil {
		t.Fatalf("the deployment would fail: %v\n%s", err, out)
	}
	s.proxy = startProcess(t, s.dir, nil, "nginx", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
	t.Cleanup(s.proxy.stop)
	eventually(t, "nginx to listen", func() bool {
		return s.get("/", "www.example.com", http.Header{}) != 0 || s.proxy.cmd.Process.Signal(syscall.Signal(0)) != nil
	})
	return s
}

// user asks as a user's browser does through a load balancer that ends https.
func (s site) user(path string) int {
	return s.get(path, "www.example.com", http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"203.0.113.9"},
		"Authorization": {"Basic c2l0ZTpzaXRl"}})
}

func (s site) claims(t *testing.T) {
	if got := s.user("/"); got != 200 && got != 503 { // 503: its own limit
		t.Errorf("the site answers %d", got)
	}
	if want := s.shape.Health; want != 0 && s.user("/health") != want {
		t.Errorf("what answered %d at /health answers %d", want, s.user("/health"))
	}
	// Where nginx has its files on an instance, with the ports that they have there.
	root := t.TempDir()
	etc := filepath.Join(root, "etc/nginx")
	back := strings.NewReplacer("listen "+s.nginx, "listen 80")
	if err := shapes.Deploy(etc, s.dir, t.TempDir(), back.Replace); err != nil {
		t.Fatal(err)
	}
	nginx := platform.NewInstance(t.Context(), platform.Options{Root: root, AppDir: root}).Nginx()
	c, stop := s.serveAgent(t, Config{Target: "http://" + s.app + "/health", Host: host("www.example.com"), Lifetime: -1})
	ask := func() Report {
		return AsLoadBalancer(t.Context(), Options{Checker: c, PrivateIP: "10.0.0.5", Proxy: s.nginx,
			Deployed: func(path string) Deployed { return Deployed(nginx.Check(path)) }})
	}
	for range 2 { // more than a limit lets through
		r := ask()
		for _, a := range r.Asks {
			if a.ByAgent != s.shape.ByAgent || s.shape.ByAgent && a.Status != 200 ||
				!s.shape.ByAgent && (a.Status != s.shape.Status || !strings.Contains(a.Fault, s.shape.Fault)) {
				t.Errorf("%s: %+v, want by the agent: %v, else %d and %q", a.As, a, s.shape.ByAgent, s.shape.Status, s.shape.Fault)
			}
		}
		if r.Safe != s.shape.ByAgent {
			t.Errorf("safe: %v", r.Safe)
		}
	}
	if !s.shape.ByAgent {
		return
	}
	s.drain(t)
	s.checkAll(t, "draining", 503)
	s.undrain()
	s.ended()
	for _, a := range ask().Asks {
		if a.Status < 500 {
			t.Errorf("the application is down, and %s hears %d", a.As, a.Status)
		}
	}
	stop()
	s.checkAll(t, "neither agent nor application", 502)
	s.drain(t)
	s.checkAll(t, "draining without an agent", 503)
}
