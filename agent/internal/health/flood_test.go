package health

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/packaging/testbed/planted"
)

// connectWithoutEnd connects to a socket without end, with more at a time than the agent has places and fewer than the kernel's
// queue holds, and says so once it has begun. Each is left when the other end has closed it.
func connectWithoutEnd(kind, socket string) {
	var made atomic.Int32
	for range 600 {
		go func() {
			for {
				conn, err := net.Dial("unix", socket)
				if err != nil {
					time.Sleep(20 * time.Millisecond) // the kernel's queue is full
					continue
				}
				if made.Add(1) == 2000 {
					fmt.Println("floods")
				}
				hold(kind, conn)
				conn.Close()
			}
		}()
	}
	select {}
}

func hold(kind string, conn net.Conn) {
	const request = "GET /agent-health HTTP/1.1\r\nHost: a\r\nX-Slow: "
	end := make(chan struct{})
	go func() {
		defer close(end)
		for b := make([]byte, 512); ; {
			if _, err := conn.Read(b); err != nil {
				return
			}
		}
	}()
	switch kind {
	case "half a request":
		fmt.Fprint(conn, request)
	case "a byte at a time":
		for i := range request {
			if _, err := fmt.Fprint(conn, request[i:i+1]); err != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	case "a body that does not come":
		fmt.Fprint(conn, "POST /agent-health HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n")
	case "a head that is too large":
		fmt.Fprint(conn, request+strings.Repeat("a", 64<<10))
	}
	<-end
}

// startFlood floods as the user of nginx's workers, where the test may become that, in processes of its own.
func startFlood(t *testing.T, kind, socket string, processes int) (stop func()) {
	t.Helper()
	self, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	var all []*exec.Cmd
	for range processes {
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles, cmd.Dir = []*os.File{self}, "/" // their directories may be closed to that user
		cmd.Env = append(os.Environ(), "HEALTH_TEST_FLOOD="+kind, "HEALTH_TEST_SOCKET="+socket)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nginxUser(t)}
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
		stop := func() { cmd.Process.Kill(); cmd.Wait() }
		t.Cleanup(stop)
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "floods\n" {
			t.Fatal(line, err)
		}
	}
	return func() {
		for _, cmd := range all {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
}

// nginxUser is whom nginx's workers run as here, if root starts it.
func nginxUser(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("www-data")
	need(t, err == nil, "user www-data")
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(n), Gid: uint32(n)}
}

// Where nginx's workers run as the application's user, that user may connect, too. Whatever it sends, or does not,
// nginx's checks are all answered by the agent, and so are those of another process.
func TestFloodOfNginxsUserLeavesChecksAnswered(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	var byNginx atomic.Int32
	p := startProxied(t, "4700ms", "a.example", func(_ http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != agentName {
			byNginx.Add(1)
		}
	})
	_, err := exec.LookPath("curl")
	need(t, err == nil, "curl")
	before := p.rss(t)
	for _, kind := range []string{"nothing", "half a request", "a byte at a time", "a body that does not come", "a head that is too large", "nothing, of four processes"} {
		processes := 1
		if strings.Contains(kind, "four") {
			kind, processes = "nothing", 4
		}
		stop := startFlood(t, kind, p.socket(), processes)
		byNginx.Store(0)
		refused, longest := 0, time.Duration(0)
		for range 20 {
			began := time.Now()
			if got := p.check("10.0.0.5", "ELB-HealthChecker/2.0"); got != 200 {
				refused++
			}
			longest = max(longest, time.Since(began))
		}
		out, err := exec.Command("curl", "-s", "-m", "20", "-w", "%{http_code} ", "--unix-socket", p.socket(),
			"http://a/agent-health", "http://a/agent-health", "http://a/agent-health").CombinedOutput()
		t.Logf("%s, %d processes: the slowest check took %s; the agent has %.1f MiB, %.1f before", kind, processes, longest.Round(time.Millisecond), p.rss(t), before)
		if refused > 0 || byNginx.Load() > 0 || strings.Count(string(out), "200 OK\n200 ") != 3 {
			t.Errorf("%s: of 20 checks %d were not answered 200, and %d were refused by the agent's socket; curl got %q, %v",
				kind, refused, byNginx.Load(), out, err)
		}
		if grown := p.rss(t) - before; grown > 16 && !raceDetector {
			t.Errorf("%s: memory grew by %.1f MiB", kind, grown)
		}
		stop()
	}
}

// The status says who it is, and the log says it once.
func TestStatusNamesWhoFloods(t *testing.T) {
	var log lockedBuffer
	c := newChecker(t, Config{Target: app(t, ok), Host: host("a.example"), Log: planted.Log(t, &log)})
	dir := t.TempDir()
	(&stack{dir: dir}).openToNginx()
	socket := filepath.Join(dir, "health.sock")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, "127.0.0.1:0", socketAt(socket)) }()
	eventually(t, "the socket to be there", func() bool { _, s := c.listening(); return s.addr == socket })
	name := nameOf(uint32(os.Geteuid()))
	if os.Geteuid() == 0 {
		name = "www-data"
	}
	floods := func() (lines []api.Line) {
		for _, l := range c.Status(t.Context(), true) {
			if strings.Contains(l.Text, "floods") {
				lines = append(lines, l)
			}
		}
		return lines
	}
	if lines := floods(); lines != nil {
		t.Errorf("before: %+v", lines)
	}
	stop := startFlood(t, "nothing", socket, 1)
	stop()
	lines := floods()
	if len(lines) != 1 || lines[0].State != api.Warn || !strings.Contains(lines[0].Text, "user "+name+" floods") || !strings.Contains(lines[0].Hint, "ps -u "+name) {
		t.Errorf("%+v", lines)
	}
	if n := strings.Count(log.String(), "floods"); n != 1 || !strings.Contains(log.String(), "user="+name) {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// However many ask while the application hangs, the next one is answered: with the last verdict.
func TestManyWhoWaitForAProbeKeepNobodyOut(t *testing.T) {
	var hangs atomic.Bool
	release := make(chan struct{})
	c := newChecker(t, Config{Host: host("a.example"), Timeout: time.Minute, Target: app(t, func(http.ResponseWriter, *http.Request) {
		if hangs.Load() {
			<-release
		}
	})})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.serveListener(ctx, ln) }()
	ask := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprint(conn, "GET /agent-health HTTP/1.0\r\nHost: a\r\n\r\n")
		return conn
	}
	answer := func(conn net.Conn) string {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line)
	}
	if got := answer(ask()); got != "HTTP/1.0 200 OK" {
		t.Fatal(got)
	}
	hangs.Store(true)
	for range 2 * maxConns {
		ask()
	}
	eventually(t, "as many to wait as may", func() bool { return c.probing.Load() >= maxProbing })
	if got := answer(ask()); got != "HTTP/1.0 200 OK" {
		t.Errorf("the next one gets %q", got)
	}
	close(release)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
