package health

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary a server of health checks when it is told a target, so that its
// memory can be measured apart from that of those who attack it.
func TestMain(m *testing.M) {
	if kind := os.Getenv("HEALTH_TEST_FLOOD"); kind != "" {
		connectWithoutEnd(kind, os.Getenv("HEALTH_TEST_SOCKET"))
	}
	target := os.Getenv("HEALTH_TEST_TARGET")
	if target == "" {
		os.Exit(m.Run())
	}
	c, err := New(Config{Target: target, Log: slog.New(slog.NewTextHandler(os.Stdout, nil)), Host: host(os.Getenv("HEALTH_TEST_HOST"))})
	if err == nil {
		c.machineHas = ofThisMachine
		err = c.Serve(context.Background(), "127.0.0.1:0", socketAt(os.Getenv("HEALTH_TEST_SOCKET")))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// server is a Checker in a process of its own.
type server struct {
	addr string
	pid  int
}

func startServer(t *testing.T, target, hostname string) server {
	t.Helper()
	return startServerAt(t, target, hostname, "")
}

// startServerAt has it at a socket, too, which is there on return.
func startServerAt(t *testing.T, target, hostname, socket string) server {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HEALTH_TEST_TARGET="+target, "HEALTH_TEST_HOST="+hostname, "HEALTH_TEST_SOCKET="+socket, "GOMAXPROCS=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	s := server{pid: cmd.Process.Pid}
	for lines, there := bufio.NewReader(out), socket == ""; s.addr == "" || !there; {
		line, err := lines.ReadString('\n')
		_, rest, ok := strings.Cut(line, "listen=")
		if err != nil || !ok {
			t.Fatalf("the server said %q, %v", line, err)
		}
		switch addr, _, _ := strings.Cut(rest, " "); addr {
		case socket:
			there = true
		default:
			s.addr = addr
		}
	}
	return s
}

// answers fails the test unless a check is answered 200. How soon is the machine's affair: attackers
// and client share it.
func (s server) answers(t *testing.T, when string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.addr + defaultPath)
	if err != nil {
		t.Errorf("%s: %v", when, err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("%s: answered %d", when, resp.StatusCode)
	}
}

// rss returns the server's resident memory in MiB.
func (s server) rss(t *testing.T) float64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid))
	need(t, err == nil, "/proc")
	var size, resident int
	fmt.Sscan(string(statm), &size, &resident)
	return float64(resident*os.Getpagesize()) / (1 << 20)
}

// TestSlowLoris: ten thousand clients that send half a header each leave memory flat and other
// checks answered, and they are cut off.
func TestSlowLoris(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	clients := min(10_000, int(limit.Cur)-200)
	need(t, clients >= 1_000, "1,200 file descriptors (ulimit -n)")
	s := startServer(t, app(t, func(http.ResponseWriter, *http.Request) {}), "a.example")
	s.answers(t, "before")
	before := s.rss(t)
	var open sync.WaitGroup
	var cut atomic.Int32
	stop := make(chan struct{})
	dialed := make(chan struct{}, clients)
	for range clients {
		open.Go(func() {
			conn, err := net.DialTimeout("tcp", s.addr, 20*time.Second)
			dialed <- struct{}{}
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET /agent-health HTTP/1.1\r\nHost: a\r\nX-Slow: ")
			ended := make(chan struct{})
			go func() { io.Copy(io.Discard, conn); cut.Add(1); close(ended) }()
			select {
			case <-ended:
			case <-stop:
				conn.Close()
				<-ended
			}
		})
	}
	peak := before
	for i := range clients {
		<-dialed
		if i%500 == 499 {
			s.answers(t, fmt.Sprintf("with %d clients", i+1))
			peak = max(peak, s.rss(t))
		}
	}
	eventually(t, "every client to be cut off", func() bool { return int(cut.Load()) == clients })
	close(stop)
	open.Wait()
	s.answers(t, "after")
	t.Logf("%d clients: %.1f MiB before, %.1f at most", clients, before, peak)
	if grown := peak - before; grown > 12 && !raceDetector { // which multiplies memory
		t.Errorf("memory grew by %.1f MiB", grown)
	}
}

// TestMalformedRequestsHarmNobody: each is answered with an error or cut off, none reaches the
// application, and the next check is answered.
func TestMalformedRequestsHarmNobody(t *testing.T) {
	var asked atomic.Int32
	target := app(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	s := startServer(t, target, "a.example")
	for name, request := range map[string]string{
		"garbage":            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"no version":         "GET /agent-health\r\n\r\n",
		"huge header":        "GET /agent-health HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"two hosts":          "GET /agent-health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"no host":            "GET /agent-health HTTP/1.1\r\n\r\n",
		"two lengths":        "GET /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"length and chunked": "POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"endless body":       "POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("a", 1<<20),
		"smuggled":           "POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcdGET /agent-health HTTP/1.1\r\nHost: a\r\n\r\n",
		"proxy request":      "GET http://10.1.2.3/agent-health/../x HTTP/1.1\r\nHost: a\r\n\r\n",
		"connect":            "CONNECT 10.1.2.3:443 HTTP/1.1\r\nHost: a\r\n\r\n",
		"http/2":             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			go io.WriteString(conn, request)
			answer, err := io.ReadAll(conn)
			if os.IsTimeout(err) {
				t.Error("the connection was neither answered nor cut off in 10 s")
			}
			if status, _, _ := strings.Cut(string(answer), "\r\n"); strings.Contains(status, " 2") {
				t.Errorf("answered %q", status)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the application was asked %d times", n)
	}
	s.answers(t, "afterwards")
}

// TestHungApplicationPilesNothingUp: however many ask a hung application, one request is with it,
// everyone hears 503 while it hangs, and no goroutine stays behind.
func TestHungApplicationPilesNothingUp(t *testing.T) {
	var asked atomic.Int32
	target := app(t, func(_ http.ResponseWriter, r *http.Request) { asked.Add(1); <-r.Context().Done() })
	c := newChecker(t, Config{Target: target, Host: host("a.example"), Timeout: 500 * time.Millisecond, Lifetime: time.Hour})
	before := runtime.NumGoroutine()
	var clients sync.WaitGroup
	var refused atomic.Int32
	for range 1000 {
		clients.Go(func() {
			if v := c.Check(t.Context()); v.Status == 503 {
				refused.Add(1)
			}
		})
	}
	clients.Wait()
	if asked.Load() != 1 || refused.Load() != 1000 {
		t.Errorf("application asked %d times, %d of 1000 refused", asked.Load(), refused.Load())
	}
	eventually(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= before+3 })
}

// TestConnectionTakenOverEndsWithItsProbe: an application that answers with 101 gives the connection away and need
// not say a word more. That holds up one check, not all that come after.
func TestConnectionTakenOverEndsWithItsProbe(t *testing.T) {
	var upgraded atomic.Bool
	end := make(chan struct{})
	target := app(t, func(w http.ResponseWriter, _ *http.Request) {
		if upgraded.Swap(true) {
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		<-end
		conn.Close()
	})
	c := newChecker(t, Config{Target: target, Host: host("a.example"), Timeout: 500 * time.Millisecond})
	t.Cleanup(func() { close(end) }) // before newChecker's own, which waits for the probes
	if v := c.Check(t.Context()); v.Status != 503 || !strings.Contains(v.Reason, "101 is not a final") {
		t.Errorf("the first: %+v", v)
	}
	if v := c.Check(t.Context()); !v.Healthy {
		t.Errorf("the second: %+v", v)
	}
}

// TestAskerWhoLeavesHarmsNobody: the first of two asks hangs up; the probe goes on for the second.
func TestAskerWhoLeavesHarmsNobody(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c := newChecker(t, Config{Host: host("a.example"), Lifetime: time.Hour,
		Target: app(t, func(http.ResponseWriter, *http.Request) { once.Do(func() { close(under) }); <-release })})
	leaving, leave := context.WithCancel(t.Context())
	left, stayed := make(chan Verdict), make(chan Verdict)
	go func() { left <- c.Check(leaving) }()
	<-under
	go func() { stayed <- c.Check(t.Context()) }()
	leave()
	if v := <-left; v.Healthy || !strings.Contains(v.Reason, "interrupted") {
		t.Errorf("who left: %+v", v)
	}
	close(release)
	if v := <-stayed; !v.Healthy {
		t.Errorf("who stayed: %+v", v)
	}
}

// TestBurstIsAnswered: a thousand honest checks at once, far more than there are places, are all
// answered, by one probe. They have arrived before the first is looked at: how fast this process
// writes them is not what is asked here.
func TestBurstIsAnswered(t *testing.T) {
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example"), Lifetime: time.Hour})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	burst := min(1000, acceptBacklog())
	need(t, burst > 2*maxConns, "a queue of more connections (net.core.somaxconn)")
	conns := make([]net.Conn, burst)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		fmt.Fprint(conns[i], "GET /agent-health HTTP/1.0\r\nHost: a\r\n\r\n")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.serveListener(ctx, ln) }()
	var clients sync.WaitGroup
	var answered atomic.Int32
	for _, conn := range conns {
		clients.Go(func() {
			if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "HTTP/1.0 200 OK") {
				answered.Add(1)
			}
		})
	}
	clients.Wait()
	if f := c.Figures(); int(answered.Load()) != burst || f.Shed != 0 || f.Probes != 1 {
		t.Errorf("%d of %d answered; %+v", answered.Load(), burst, f)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}

// acceptBacklog is how many connections the kernel keeps for a listener of Go's.
func acceptBacklog() int {
	text, _ := os.ReadFile("/proc/sys/net/core/somaxconn")
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}
