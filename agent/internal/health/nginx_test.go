package health

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var production = map[string]string{"X-Forwarded-Proto": "https"}

// TestDjangoBehindNginx runs every claim about the real parts on one stack: starting it costs seconds.
func TestDjangoBehindNginx(t *testing.T) {
	s := startStack(t)
	for name, claim := range map[string]func(*testing.T, *stack){
		"answers and reasons": answersAndReasons, "stopped workers": stoppedWorkers, "agent down": agentDown,
		"health log": healthLog, "other paths": otherPaths, "as load balancer": asLoadBalancer,
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "answers and reasons" {
				t.Skip("takes seconds")
			}
			claim(t, s)
		})
	}
}

// answersAndReasons: each way in which a strict production site refuses a load balancer's
// check becomes the right answer, with a reason that says what to do.
func answersAndReasons(t *testing.T, s *stack) {
	for _, tt := range []struct {
		name   string
		config Config
		status int
		reason string
	}{
		{"right host and header", Config{Host: host("www.example.com"), Headers: production}, 200, "200 OK"},
		{"wrong host", Config{Host: host("10.0.0.5"), Headers: production}, 400, "set health.host"},
		{"no host set", Config{Headers: production}, 400, "set health.host"},
		{"no X-Forwarded-Proto", Config{Host: host("www.example.com")}, 301, "X-Forwarded-Proto: https"},
		{"no final slash", Config{Host: host("www.example.com"), Headers: production, Target: "http://" + s.app + "/health"}, 301, "final slash"},
		{"error page", Config{Host: host("www.example.com"), Headers: production, Target: "http://" + s.app + "/boom/"}, 500, "the application failed"},
		{"HEAD", Config{Host: host("www.example.com"), Headers: production, Method: "HEAD"}, 200, "200 OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, stop := s.serveAgent(t, tt.config)
			defer stop()
			s.checkAll(t, tt.name, tt.status)
			history := c.History()
			if last := history[len(history)-1]; !strings.Contains(last.Reason, tt.reason) {
				t.Errorf("reason %q, want %q in it", last.Reason, tt.reason)
			}
		})
	}
}

// stoppedWorkers turn the verdict within one time limit, and back; then gunicorn goes and comes.
func stoppedWorkers(t *testing.T, s *stack) {
	c, _ := s.serveAgent(t, Config{Host: host("www.example.com"), Headers: production, Timeout: time.Second})
	s.eventuallyAll(t, 200) // a busy machine's Django may need more than the second that it has here
	s.gunicorn.signal(syscall.SIGSTOP)
	s.checkAll(t, "stopped", 503) // nginx answers otherwise after 4.7 s
	if h := c.History(); !strings.Contains(h[len(h)-1].Reason, "no answer within 1s") {
		t.Errorf("reason: %q", h[len(h)-1].Reason)
	}
	s.gunicorn.signal(syscall.SIGCONT)
	s.eventuallyAll(t, 200)
	s.gunicorn.stop()
	s.checkAll(t, "gone", 503)
	if h := c.History(); !strings.Contains(h[len(h)-1].Reason, "connection refused on "+s.app) {
		t.Errorf("reason: %q", h[len(h)-1].Reason)
	}
	s.startGunicorn(t)
	s.eventuallyAll(t, 200)
}

// agentDown: nginx asks the application itself, as the agent did, and tells the truth when that is
// down as well. What the agent knew counts from nginx's next start, which every deployment brings.
func agentDown(t *testing.T, s *stack) {
	os.Remove(filepath.Join(s.dir, "nginx-health.conf"))
	s.reloadNginx(t, 400) // Django's answer to the load balancer's own Host
	c, stop := s.serveAgent(t, Config{Host: host("www.example.com"), Headers: production})
	s.drain(t)
	s.checkAll(t, "agent answers", 503)
	eventually(t, "the fallback to be kept", func() bool { _, err := os.Stat(c.cfg.NginxFile); return err == nil })
	stop()
	s.checkAll(t, "agent gone, still drained", 503)
	s.undrain()
	s.reloadNginx(t, 200)
	s.checkAll(t, "agent gone", 200)
	s.gunicorn.stop()
	s.checkAll(t, "both gone", 502)
	s.startGunicorn(t)
}

// reloadNginx waits until nginx answers a check with want, by its new configuration alone: workers of
// the old one accept for a moment beside the new ones.
func (s *stack) reloadNginx(t *testing.T, want int) {
	t.Helper()
	var old []int
	eventually(t, "nginx to have both its workers", func() bool { old = s.nginxWorkers(t); return len(old) == 2 })
	syscall.Kill(s.proxy.cmd.Process.Pid, syscall.SIGHUP)
	eventually(t, "nginx's old workers to end", func() bool {
		return !slices.ContainsFunc(old, func(pid int) bool { return syscall.Kill(pid, 0) == nil })
	})
	eventually(t, fmt.Sprintf("nginx to answer %d by itself", want), func() bool {
		return s.check("10.0.0.5", "ELB-HealthChecker/2.0") == want
	})
}

// nginxWorkers are complete only as long as none of them ends: the kernel's list skips others then.
func (s *stack) nginxWorkers(t *testing.T) (pids []int) {
	t.Helper()
	pid := s.proxy.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	need(t, err == nil, "/proc")
	for _, f := range strings.Fields(string(children)) {
		n, _ := strconv.Atoi(f)
		pids = append(pids, n)
	}
	return pids
}

// healthLog: checks stay out of Beanstalk's, and out of the application's log of refused Hosts.
func healthLog(t *testing.T, s *stack) {
	s.gunicorn.stop() // others' refused Hosts are in its output
	s.startGunicorn(t)
	_, stop := s.serveAgent(t, Config{Host: host("www.example.com"), Headers: production})
	s.checkAll(t, "through the agent", 200)
	stop()
	s.reloadNginx(t, 200)
	s.checkAll(t, "without the agent", 200)
	s.ask("www.example.com", "/seen")
	eventually(t, "nginx to write its log", func() bool { return strings.Contains(s.log(t, "healthd.log"), `"/seen"404`) })
	for _, name := range []string{"healthd.log", "access.log"} {
		if log := s.log(t, name); strings.Contains(log, defaultPath) {
			t.Errorf("health checks are in %s:\n%s", name, log)
		}
	}
	s.gunicorn.stop() // its output is whole then
	out := s.gunicorn.out.String()
	s.startGunicorn(t)
	if strings.Contains(out, "Invalid HTTP_HOST") {
		t.Errorf("the application had to refuse a Host:\n%s", out)
	}
}

// otherPaths go to the application: the snippet takes exactly one path.
func otherPaths(t *testing.T, s *stack) {
	c, _ := s.serveAgent(t, Config{Host: host("www.example.com"), Headers: production})
	for path, want := range map[string]int{"/": 200, "/health/": 200, "/healthz": 404, "/nothing": 404} {
		if got := s.ask("www.example.com", path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
	if asked := c.Figures().Asked; asked != 0 {
		t.Errorf("%d requests for other paths reached the agent", asked)
	}
}

func asLoadBalancer(t *testing.T, s *stack) {
	c, stop := s.serveAgent(t, Config{Host: host("www.example.com"), Headers: production})
	ask := func() Report {
		return AsLoadBalancer(t.Context(), Options{Checker: c, PrivateIP: "10.0.0.5", Proxy: s.nginx})
	}
	if r := ask(); !r.Safe || len(r.Asks) != 4 || !r.Verdict.Healthy {
		t.Errorf("all is well: %+v", r)
	}
	if asked := c.Figures().Asked; asked != 0 {
		t.Errorf("own questions count as a load balancer's: %d", asked)
	}
	s.drain(t)
	if r := ask(); r.Safe || !strings.Contains(r.Asks[0].Fault, "draining") {
		t.Errorf("draining: %+v", r)
	}
	s.undrain()
	stop()
	s.reloadNginx(t, 200) // nginx now answers 200 by its fallback, which must not pass for the agent's answer
	if r := ask(); r.Safe || r.Asks[0].Status != 200 || r.Asks[0].ByAgent || !strings.Contains(r.Asks[0].Fault, "not by the agent") {
		t.Errorf("agent's listener gone: %+v", r)
	}
	wrong, _ := s.serveAgent(t, Config{Headers: production})
	r := AsLoadBalancer(t.Context(), Options{Checker: wrong, PrivateIP: "10.0.0.5", Proxy: s.nginx})
	if r.Safe || r.Asks[2].Status != 400 || !strings.Contains(r.Verdict.Reason, "set health.host") {
		t.Errorf("no host configured: %+v", r)
	}
	r = AsLoadBalancer(t.Context(), Options{Checker: wrong, PrivateIP: "10.0.0.5", Proxy: "127.0.0.1:" + freePort(t)})
	if r.Safe || !strings.Contains(r.Asks[0].Fault, "does not run") {
		t.Errorf("no nginx: %+v", r)
	}
}
