package health

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// proxied is an agent in a process of its own, behind the real nginx with the real snippet, before an
// application of the test's own. nginx waits for the agent as long as patience says.
type proxied struct {
	*stack
	server
}

func startProxied(t *testing.T, patience, hostname string, h http.HandlerFunc) proxied {
	t.Helper()
	_, err := exec.LookPath("nginx")
	need(t, err == nil, "nginx (Debian: nginx-light)")
	target := app(t, h)
	p := proxied{stack: &stack{dir: t.TempDir(), app: strings.TrimPrefix(target, "http://"), nginx: "127.0.0.1:" + freePort(t)}}
	p.openToNginx()
	p.server = startServerAt(t, target, hostname, p.socket())
	p.agent = p.addr
	p.writeNginx(t)
	p.setPatience(t, patience)
	p.proxy = startProcess(t, p.dir, nil, "nginx", "-p", p.dir, "-c", "nginx.conf", "-e", "error.log")
	t.Cleanup(p.proxy.stop)
	eventually(t, "nginx to answer", func() bool { return p.check("10.0.0.5", "ELB-HealthChecker/2.0") == 200 })
	return p
}

func (p proxied) setPatience(t *testing.T, patience string) {
	t.Helper()
	conf := filepath.Join(p.dir, "conf.d/elasticbeanstalk/agent-health.conf")
	text, err := os.ReadFile(conf)
	if err != nil || strings.Count(string(text), "proxy_read_timeout 4700ms;") != 1 {
		t.Fatalf("no time limit for the agent in the snippet: %v", err)
	}
	if err := os.WriteFile(conf, []byte(strings.Replace(string(text), "4700ms", patience, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// say opens a connection to nginx and sends text. The caller closes it.
func (p proxied) say(text string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", p.nginx, 30*time.Second)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = io.WriteString(conn, text)
	return conn, err
}

// malformed are requests that must not be answered with a success, nor reach the application.
var malformed = []string{
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
	"GET /agent-health HTTP/1.1\r\n\r\n",
	"GET /agent-health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
	"GET /agent-health HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\naaaa",
	"GET /agent-health HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
	"CONNECT 10.1.2.3:443 HTTP/1.1\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}

// TestTenThousandThroughNginx: slow, broken and honest clients in turn, five hundred at any time and ten
// thousand in all, leave the agent's memory flat, its honest clients answered, and the application
// with one request for each lifetime of a verdict. The honest ones are fewer at a time than the agent
// has places: of more, a busy machine's nginx asks the application for some itself.
func TestTenThousandThroughNginx(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	const clients, laps = 500, 5 // of four connections each
	honest := make(chan struct{}, maxConns/4)
	var asked, byNginx atomic.Int32
	began := time.Now()
	p := startProxied(t, "4700ms", "a.example", func(_ http.ResponseWriter, r *http.Request) {
		if r.UserAgent() == agentName {
			asked.Add(1)
		} else {
			byNginx.Add(1)
		}
	})
	before, peak := p.rss(t), 0.0
	var refused, answered, fooled atomic.Int32
	lap := func(n int) {
		slow, err1 := p.say("GET /agent-health HTTP/1.1\r\nHost: a\r\nX-Slow: ")
		body, err2 := p.say("POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf")
		for _, c := range []net.Conn{slow, body} {
			if c != nil {
				defer c.Close()
			}
		}
		switch status, err := p.status(malformed[n%len(malformed)]); {
		case err1 != nil || err2 != nil || err != nil:
			refused.Add(1)
		case strings.HasPrefix(status, "2"):
			fooled.Add(1)
		}
		honest <- struct{}{}
		defer func() { <-honest }()
		if status, err := p.status("GET /agent-health HTTP/1.0\r\nHost: 10.0.0.5\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"); err == nil && status == "200" {
			answered.Add(1)
		}
	}
	var all sync.WaitGroup
	ended := make(chan struct{})
	for n := range clients {
		all.Go(func() {
			for i := range laps {
				lap(n + i)
			}
		})
	}
	go func() { all.Wait(); close(ended) }()
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		case <-time.After(200 * time.Millisecond):
		}
		if got := p.check("10.0.0.5", "ELB-HealthChecker/2.0"); got != 200 {
			t.Errorf("another check is answered %d", got)
		}
		peak = max(peak, p.rss(t))
	}
	took := time.Since(began)
	t.Logf("%d connections in %s: memory %.1f MiB before, %.1f at most; the application asked %d times, and %d times by nginx", 4*clients*laps, took.Round(time.Millisecond), before, peak, asked.Load(), byNginx.Load())
	if answered.Load() != clients*laps || fooled.Load() != 0 || refused.Load() != 0 {
		t.Errorf("%d of %d honest checks answered 200; %d broken ones too; %d connections refused", answered.Load(), clients*laps, fooled.Load(), refused.Load())
	}
	if most := int32(took/time.Second) + 1; asked.Load() > most || byNginx.Load() != 0 {
		t.Errorf("the agent asked the application %d times in %s, nginx %d times", asked.Load(), took, byNginx.Load())
	}
	if grown := peak - before; grown > 12 && !raceDetector { // which multiplies memory
		t.Errorf("memory grew by %.1f MiB", grown)
	}
}

// status sends text and returns the status of the answer, "" for a connection that was cut off.
func (p proxied) status(text string) (string, error) {
	conn, err := p.say(text)
	if conn == nil {
		return "", err
	}
	defer conn.Close()
	line, _ := bufio.NewReader(conn).ReadString('\n')
	var proto, status string
	fmt.Sscan(line, &proto, &status)
	return status, nil // nginx may cut a broken client off while it still writes
}

// TestHungAgentIsAskedAround: an agent that accepts connections and does not answer, as one that its
// watchdog is about to kill, costs a check nginx's patience with it and not the answer.
func TestHungAgentIsAskedAround(t *testing.T) {
	var byNginx atomic.Int32
	p := startProxied(t, "500ms", "a.example", func(_ http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != agentName {
			byNginx.Add(1)
		}
	})
	syscall.Kill(p.pid, syscall.SIGSTOP)
	if got := p.check("10.0.0.5", "ELB-HealthChecker/2.0"); got != 200 || byNginx.Load() == 0 {
		t.Errorf("answered %d, by nginx itself %d times", got, byNginx.Load())
	}
	syscall.Kill(p.pid, syscall.SIGCONT)
	eventually(t, "the agent to answer again", func() bool {
		before := byNginx.Load()
		return p.check("10.0.0.5", "ELB-HealthChecker/2.0") == 200 && byNginx.Load() == before
	})
}
