package health

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
)

// need fails in CI, and skips elsewhere, when a real part is missing.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatalf("this test needs %s", what)
	default:
		t.Skipf("this test needs %s", what)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// process is a real part, in a session of its own so that its workers end with it.
type process struct {
	cmd *exec.Cmd
	out *bytes.Buffer
}

// startProcess leaves the stopping to the caller, who may outlive the subtest that started it.
func startProcess(t *testing.T, dir string, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), out: &bytes.Buffer{}}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) signal(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *process) stop() {
	if p.cmd.ProcessState == nil {
		p.signal(syscall.SIGKILL)
		p.cmd.Wait()
	}
}

// stack is the instance in small: Django under gunicorn, nginx in front, with Beanstalk's
// include layout and our snippet.
type stack struct {
	dir      string
	app      string // address of gunicorn
	nginx    string // address of nginx
	agent    string // address of the agent's port
	gunicorn *process
	proxy    *process
}

func startStack(t *testing.T, env ...string) *stack {
	t.Helper()
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	s := &stack{
		dir: t.TempDir(), app: "127.0.0.1:" + freePort(t),
		nginx: "127.0.0.1:" + freePort(t), agent: "127.0.0.1:" + freePort(t),
	}
	s.startGunicorn(t, env...)
	t.Cleanup(func() { s.gunicorn.stop() })
	s.openToNginx()
	s.writeNginx(t)
	s.proxy = startProcess(t, s.dir, nil, "nginx", "-p", s.dir, "-c", "nginx.conf", "-e", "error.log")
	t.Cleanup(s.proxy.stop)
	eventually(t, "nginx to answer", func() bool { return s.ask("www.example.com", "/") == 200 })
	return s
}

func (s *stack) startGunicorn(t *testing.T, env ...string) {
	t.Helper()
	err := exec.Command("/usr/bin/python3", "-c", "import django, gunicorn").Run()
	need(t, err == nil, "Django and gunicorn (Debian: python3-django gunicorn)")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s.gunicorn = startProcess(t, filepath.Join(here, "testdata/django"), append(env, "PYTHONDONTWRITEBYTECODE=1"),
		"/usr/bin/python3", "/usr/bin/gunicorn", "--bind", s.app, "--workers=2", "--threads=4", "--graceful-timeout=1", "app:application")
	eventually(t, "Django to answer", func() bool {
		resp, err := (&http.Client{Timeout: time.Minute}).Get("http://" + s.app + "/") // refused, but answered
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// openToNginx lets nginx's workers in, which are another user when the test is root.
func (s *stack) openToNginx() {
	for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
}

// writeNginx lays the configuration out as Beanstalk does and edits the snippet as its comments say.
func (s *stack) writeNginx(t *testing.T) {
	t.Helper()
	snippet, err := os.ReadFile("../../../packaging/nginx/agent-health.conf")
	if err != nil {
		t.Fatal(err)
	}
	edited := string(snippet)
	for from, to := range map[string]string{
		"unix:/run/agent/health.sock;":          "unix:" + s.socket() + ";",
		"set $agent_health_app 127.0.0.1:8000;": "set $agent_health_app " + s.app + ";",
		"include /var/lib/agent/":               "include " + s.dir + "/",
		"/run/agent/drain":                      filepath.Join(s.dir, "drain"),
	} {
		if strings.Count(edited, from) != 1 {
			t.Fatalf("the snippet has %q %d times, want once", from, strings.Count(edited, from))
		}
		edited = strings.Replace(edited, from, to, 1)
	}
	conf := filepath.Join(s.dir, "conf.d/elasticbeanstalk")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("conf.d/elasticbeanstalk/agent-health.conf", edited)
	_, port, _ := net.SplitHostPort(s.nginx)
	values := strings.NewReplacer("@PORT@", port, "@APP@", s.app)
	for _, name := range []string{"nginx.conf", "conf.d/elasticbeanstalk/00_application.conf"} {
		text, err := os.ReadFile(filepath.Join("testdata/nginx", name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, values.Replace(string(text)))
	}
}

// ask asks nginx as a user's browser would through a load balancer; 0 is no answer.
func (s *stack) ask(host, path string) int {
	return s.get(path, host, http.Header{"X-Forwarded-Proto": {"https"}})
}

// check asks nginx for the health path as a load balancer does.
func (s *stack) check(host, agent string) int {
	return s.get(defaultPath, host, http.Header{"User-Agent": {agent}})
}

func (s *stack) get(path, host string, header http.Header) int {
	req, err := http.NewRequest("GET", "http://"+s.nginx+path, nil)
	if err != nil {
		return 0
	}
	req.Host, req.Header = host, header
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// serveAgent runs a Checker of c where the snippet looks for it, until the func it returns is called.
func (s *stack) serveAgent(t *testing.T, c Config) (*Checker, func()) {
	t.Helper()
	if c.Target == "" {
		c.Target = "http://" + s.app + "/health/"
	}
	c.NginxFile = filepath.Join(s.dir, "nginx-health.conf")
	c.Draining = func(bool) bool { _, err := os.Stat(s.drainFile()); return err == nil }
	checker := newChecker(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- checker.Serve(ctx, s.agent, socketAt(s.socket())) }()
	eventually(t, "the socket to be there", func() bool { _, socket := checker.listening(); return socket.addr != "" })
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return checker, stop
}

// socket is where the snippet expects the agent.
func (s *stack) socket() string { return filepath.Join(s.dir, "health.sock") }

// socketAt makes a socket as the daemon does, for nginx's workers of whatever user.
func socketAt(path string) func() (net.Listener, error) {
	if path == "" {
		return nil
	}
	return func() (net.Listener, error) {
		ln, err := fdconn.Listen(path, nil)
		if err != nil {
			return nil, err
		}
		ln.Alone = true
		return ln, os.Chmod(path, 0o666)
	}
}

// drainFile is there while the instance drains, the agent running or not.
func (s *stack) drainFile() string { return filepath.Join(s.dir, "drain") }

func (s *stack) drain(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.drainFile(), []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *stack) undrain() { os.Remove(s.drainFile()) }

func (s *stack) log(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// loadBalancers are the checks as AWS's three send them; sources at AsLoadBalancer.
var loadBalancers = []struct{ name, host, agent string }{
	{"ALB", "10.0.0.5", "ELB-HealthChecker/2.0"},
	{"ALB with port", "10.0.0.5:80", "ELB-HealthChecker/2.0"},
	{"NLB", "198.51.100.7:80", "ELB-HealthChecker/2.0"},
	{"CLB", "10.0.0.5", "ELB-HealthChecker/1.0"},
}

// eventuallyAll waits for the same answer to each load balancer.
func (s *stack) eventuallyAll(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("every check to be answered %d", want), func() bool {
		for _, lb := range loadBalancers {
			if s.check(lb.host, lb.agent) != want {
				return false
			}
		}
		return true
	})
}

// checkAll wants the same answer for each load balancer.
func (s *stack) checkAll(t *testing.T, what string, want int) {
	t.Helper()
	for _, lb := range loadBalancers {
		if got := s.check(lb.host, lb.agent); got != want {
			t.Errorf("%s: %s is answered %d, want %d", what, lb.name, got, want)
		}
	}
}
