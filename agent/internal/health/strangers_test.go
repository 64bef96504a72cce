package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ofThisMachine stands for the addresses of a machine: a test runs where there may be none but loopback's.
func ofThisMachine(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.String() == "10.0.0.5" || ip.String() == "fd00::5"
}

// TestWhoIsProbedFor: without a known Host a check by address is, and nobody else: a name, or what came through a
// load balancer, is answered as the last check was.
func TestWhoIsProbedFor(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		host          string // that the application is asked with; "": it is not
	}{
		{"ALB", "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nUser-Agent: ELB-HealthChecker/2.0\r\n", "10.0.0.5"},
		{"ALB, another port", "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5:8080\r\n", "10.0.0.5"},
		{"ALB, IPv6", "GET /agent-health HTTP/1.1\r\nHost: [FD00:0::5]:80\r\n", "[fd00::5]"},
		{"NLB", "GET /agent-health HTTP/1.1\r\nHost: 10.0.1.77:80\r\n", "10.0.1.77"},
		{"CLB", "GET /agent-health HTTP/1.0\r\nHost: 10.0.0.5\r\nUser-Agent: ELB-HealthChecker/1.0\r\n", "10.0.0.5"},
		{"on the instance", "GET /agent-health HTTP/1.1\r\nHost: LOCALHOST:8127\r\n", "localhost"},
		{"no Host, HTTP/1.0", "GET /agent-health HTTP/1.0\r\n", "the application's"},
		{"absolute form", "GET http://10.0.0.5/agent-health HTTP/1.1\r\nHost: evil.example\r\n", "10.0.0.5"},
		{"Route 53 by address", "GET /agent-health HTTP/1.1\r\nHost: 198.51.100.7\r\n", "198.51.100.7"},

		{"Route 53 by name", "GET /agent-health HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Amazon-Route53-Health-Check-Service\r\n", ""},
		{"a user of an ALB", "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nX-Forwarded-For: 203.0.113.9\r\n", ""},
		{"an empty X-Forwarded-For", "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nX-Forwarded-For:\r\n", ""},
		{"a name that begins like an address", "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5.evil.example\r\n", ""},
		{"an address as C reads it", "GET /agent-health HTTP/1.1\r\nHost: 0x0a.5\r\n", ""},
		{"absolute form of a name", "GET http://evil.example/agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\n", ""},
		{"a forged name of a load balancer", "GET /agent-health HTTP/1.1\r\nHost: evil\r\nUser-Agent: ELB-HealthChecker/2.0\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := make(chan string, 2)
			c := newChecker(t, Config{Target: app(t, func(_ http.ResponseWriter, r *http.Request) { asked <- r.Host })})
			if tt.host == "the application's" {
				p, _ := c.findTarget(t.Context())
				tt.host = p.DefaultHost()
			}
			got := ask(t, c, tt.request)
			want := 200
			if tt.host == "" {
				want = 503 // nothing is known yet
			}
			if got != want {
				t.Errorf("answered %d, want %d", got, want)
			}
			close(asked)
			if host := <-asked; host != tt.host {
				t.Errorf("the application was asked with %q, want %q", host, tt.host)
			}
		})
	}
}

// ask sends a request as it is to c's handler and returns the status of its answer.
func ask(t *testing.T, c *Checker, request string) int {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request + "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	c.Handler().ServeHTTP(w, r)
	return w.Code
}

const (
	fromALB      = "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nUser-Agent: ELB-HealthChecker/2.0\r\n"
	fromStranger = "GET /agent-health HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: ELB-HealthChecker/2.0\r\n"
	fromUser     = "GET /agent-health HTTP/1.1\r\nHost: www.example.com\r\nX-Forwarded-For: 203.0.113.9\r\n"
)

// TestStrangersGetTheLastVerdict, whatever it is, until it is older than any load balancer leaves between two checks.
// Its User-Agent makes no stranger a load balancer: neither figures nor a drain's count follow it.
func TestStrangersGetTheLastVerdict(t *testing.T) {
	status, balancers := 200, 0
	c := newChecker(t, Config{Target: app(t, func(w http.ResponseWriter, r *http.Request) {
		if w.WriteHeader(status); r.Host != "10.0.0.5" {
			t.Errorf("asked with %s", r.Host)
		}
	}), Draining: func(balancer bool) bool {
		if balancer {
			balancers++
		}
		return false
	}})
	for _, status = range []int{200, 500, 200} {
		if got := ask(t, c, fromALB); got != status {
			t.Errorf("the load balancer is answered %d, want %d", got, status)
		}
		before := c.Figures()
		for _, request := range []string{fromStranger, fromUser} {
			if got := ask(t, c, request); got != status {
				t.Errorf("a stranger is answered %d, want %d", got, status)
			}
		}
		if after := c.Figures(); after.State != before.State || after.Probes != before.Probes {
			t.Errorf("strangers made %+v of %+v", after, before)
		}
	}
	if balancers != 3 {
		t.Errorf("a drain counts %d checks of load balancers, want 3", balancers)
	}
	c.lastHere.At = c.lastHere.At.Add(-lastFor)
	if got := ask(t, c, fromUser); got != 503 {
		t.Errorf("by a verdict of long ago a stranger is answered %d", got)
	}
}

// TestOthersAddressesAreFew: 200 addresses are not 200 probes, and change neither what is known of the application
// nor what is kept of its answers. Those without a place are answered as the load balancer was.
func TestOthersAddressesAreFew(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	c := newChecker(t, Config{Lifetime: time.Hour, Target: app(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "10.0.0.5" {
			return
		}
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		w.WriteHeader(400)
	})})
	if got := ask(t, c, fromALB); got != 200 {
		t.Fatalf("the load balancer is answered %d", got)
	}
	before := c.Figures()
	var all sync.WaitGroup
	var well atomic.Int32
	for n := range 200 {
		all.Go(func() {
			request := fmt.Sprintf("GET /agent-health HTTP/1.1\r\nHost: 10.9.9.%d\r\nUser-Agent: ELB-HealthChecker/2.0\r\n", n)
			if ask(t, c, request) == 200 {
				well.Add(1)
			}
		})
	}
	eventually(t, "those without a place to be answered", func() bool { return well.Load() == 200-maxElsewhere })
	close(release)
	all.Wait()
	if most.Load() != maxElsewhere {
		t.Errorf("%d probes at once, want %d", most.Load(), maxElsewhere)
	}
	if after := c.Figures(); after.State != before.State || after.Probes != before.Probes || len(c.History()) != 1 {
		t.Errorf("they made %+v of %+v, and a history of %d", after, before, len(c.History()))
	}
}

// TestLoadBalancerAmongStrangers: directly and through nginx, 200 clients with a name, or an address, each, some of
// which never end their request, refuse no check of a load balancer while the application is well. It hears at once
// that the application is not.
func TestLoadBalancerAmongStrangers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, latency := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond} {
		var sick atomic.Bool
		var probes atomic.Int32
		p := startProxied(t, "4700ms", "", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Forwarded-Proto") == "" { // else nginx's, by which it does without an agent on a busy machine
				probes.Add(1)
			}
			time.Sleep(latency)
			if sick.Load() {
				w.WriteHeader(500)
			}
		})
		for way, addr := range map[string]string{"directly": p.addr, "through nginx": p.nginx} {
			for kind, host := range map[string]string{"names": "h%d.example", "addresses": "203.0.113.%d"} {
				t.Run(fmt.Sprint(latency, " ", way, " ", kind), func(t *testing.T) {
					began, before := time.Now(), probes.Load()
					leave := strangers(t, addr, host)
					for range 30 {
						if got := status(addr, fromALB+"Connection: close\r\n\r\n"); got != "200" {
							t.Errorf("a well application's check is answered %q", got)
						}
					}
					sick.Store(true)
					becomes(t, addr, "500")
					sick.Store(false)
					becomes(t, addr, "200")
					leave()
					seconds := int32(time.Since(began)/time.Second) + 2
					if n := probes.Load() - before; n > seconds*(maxElsewhere+2) {
						t.Errorf("%d probes in %d s", n, seconds)
					}
				})
			}
		}
	}
}

// TestNginxHandsForwardingOn: the snippet lets the agent see that a request came through a load balancer. Such a one
// starts no probe, and is no load balancer's, whatever else it has.
func TestNginxHandsForwardingOn(t *testing.T) {
	var asked sync.Map
	p := startProxied(t, "4700ms", "", func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.Host, true) })
	for host, forwarded := range map[string]string{"10.0.7.1": "", "10.0.7.2": "X-Forwarded-For: 203.0.113.9\r\n",
		"10.0.7.3": "x-forwarded-for: a\r\nX-Forwarded-For: b\r\n"} {
		request := "GET /agent-health HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: ELB-HealthChecker/2.0\r\n" + forwarded
		if got := status(p.nginx, request+"Connection: close\r\n\r\n"); got != "200" {
			t.Errorf("%s is answered %q", host, got)
		}
		if _, probed := asked.Load(host); probed != (forwarded == "") {
			t.Errorf("Host %s with %q: asked for %v", host, forwarded, probed)
		}
	}
}

// becomes waits for an answer to the load balancer.
func becomes(t *testing.T, addr, want string) {
	t.Helper()
	eventually(t, "the load balancer to hear "+want, func() bool {
		return status(addr, fromALB+"Connection: close\r\n\r\n") == want
	})
}

// strangers are 200 clients that ask again and again until leave is called, each second of them beside a request that
// it never ends.
func strangers(t *testing.T, addr, host string) (leave func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	began := make(chan struct{}, 200)
	for n := range 200 {
		all.Go(func() {
			if n%2 == 0 {
				if c, err := net.Dial("tcp", addr); err == nil {
					fmt.Fprint(c, "GET /agent-health HTTP/1.1\r\nHost: a\r\nX-Slow: ")
					defer c.Close()
				}
			}
			request := fmt.Sprintf("GET /agent-health HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", n)
			status(addr, request)
			began <- struct{}{}
			for ctx.Err() == nil {
				status(addr, request)
				sleep(ctx, 100*time.Millisecond)
			}
		})
	}
	for range 200 {
		<-began
	}
	return func() { cancel(); all.Wait() }
}

// status sends text and returns the status of the answer, "" for none.
func status(addr, text string) (status string) {
	conn, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(conn, text)
	line, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Sscan(line, new(string), &status)
	return status
}

// TestOneAnswerForAConnection, however many requests come over it, and nothing but HTTP/1 on it.
func TestOneAnswerForAConnection(t *testing.T) {
	var asked atomic.Int32
	s := startServer(t, app(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) }), "")
	for name, text := range map[string]string{
		"pipelined": strings.Repeat("GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nConnection: keep-alive\r\n\r\n", 100),
		"h2c": "GET /agent-health HTTP/1.1\r\nHost: 10.0.0.5\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, text)
		b, err := io.ReadAll(conn)
		if n := strings.Count(string(b), "HTTP/1.1 200 OK"); n != 1 || strings.Contains(string(b), " 101 ") {
			t.Errorf("%s: %d answers: %q, %v", name, n, b, err)
		}
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("the application was asked %d times", n)
	}
}
