package site

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the site when it is started as one, by a test or by a master.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "site" {
		os.Exit(Main(os.Args[2:], os.Environ()))
	}
	os.Exit(m.Run())
}

func TestApp(t *testing.T) {
	app := newApp([]string{"www.example.com", ".example.org"})
	for _, tt := range []struct {
		host, proto, path string
		want              int
	}{
		{"www.example.com", "https", "/", 200},
		{"www.example.com", "https", "/health", 200},
		{"WWW.example.com:443", "https", "/health", 200},
		{"a.example.org", "https", "/health", 200},
		{"example.org", "https", "/health", 200},
		{"www.example.com", "", "/health", 301},
		{"10.0.0.5", "https", "/health", 400},
		{"10.0.0.5:80", "", "/health", 400},
		{"badexample.org", "https", "/health", 400},
		{"", "https", "/health", 400},
		{"www.example.com", "https", "/slow?s=0.01", 200},
		{"www.example.com", "https", "/slow?s=61", 400},
		{"www.example.com", "https", "/nothing", 404},
	} {
		r := httptest.NewRequest("GET", tt.path, nil)
		r.Host = tt.host
		r.Header.Set("X-Forwarded-Proto", tt.proto)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("Host %q, proto %q, %s: got %d, want %d", tt.host, tt.proto, tt.path, w.Code, tt.want)
		}
	}
}

func TestParseSaysWhatIsWanted(t *testing.T) {
	var stderr bytes.Buffer
	for _, tt := range [][]string{{"-workers", "0"}, {"extra"}, {"-threads", "0"}} {
		stderr.Reset()
		if _, err := parse(tt, nil, &stderr); err == nil || !strings.Contains(stderr.String(), "want") {
			t.Errorf("parse(%q): %v, said %q", tt, err, &stderr)
		}
	}
	opt, err := parse(nil, []string{"ALLOWED_HOSTS=a.example, b.example", "PORT=5000", "WEB_CONCURRENCY=2"}, &stderr)
	if err != nil || opt.listen != "127.0.0.1:5000" || opt.workers != 2 || opt.hosts[1] != "b.example" {
		t.Errorf("got %+v, %v", opt, err)
	}
}

// running is a site in a process of its own.
type running struct {
	cmd    *exec.Cmd
	client *http.Client
}

// start runs the site with args and waits until it says where it serves.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &running{cmd: exec.Command(self, append([]string{"site", "-listen", "127.0.0.1:0"}, args...)...)}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatalf("site said nothing: %v", err)
	}
	network, addr := "tcp", regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if m := regexp.MustCompile(`unix:(\S+)`).FindStringSubmatch(line); m != nil {
		network, addr = "unix", m[1]
	}
	s.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}}
	return s
}

// get returns the body of path, asked as the load balancer passes a user's request on.
func (s *running) get(path string) (string, error) {
	req, err := http.NewRequest("GET", "http://www.example.com"+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Forwarded-Proto", "https")
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	body.ReadFrom(resp.Body)
	if resp.StatusCode != 200 {
		return "", fmt.Errorf("%s", resp.Status)
	}
	return body.String(), nil
}

// worker returns the process id that answered, 0 if none did.
func (s *running) worker() (pid int) {
	body, _ := s.get("/")
	fmt.Sscanf(body, "hello from process %d", &pid)
	return pid
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.After(15 * time.Second); !cond(); {
		select {
		case <-deadline:
			t.Fatalf("waited 15 s for %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestWorkersShareOneSocket: with room for one request each, two slow ones land on two processes.
func TestWorkersShareOneSocket(t *testing.T) {
	s := start(t, "-workers", "3", "-threads", "1")
	seen := map[int]bool{}
	var mu sync.Mutex
	eventually(t, "three processes to have answered", func() bool {
		var asked sync.WaitGroup
		for range 6 {
			asked.Go(func() {
				pid := s.worker()
				mu.Lock()
				defer mu.Unlock()
				seen[pid] = true
			})
		}
		asked.Wait()
		return len(seen) == 3 && !seen[0]
	})
	if seen[s.cmd.Process.Pid] {
		t.Error("the master answers requests itself")
	}
}

// TestStopLetsRequestsEnd: SIGTERM refuses new requests, finishes the one under way, exits 0 and
// leaves no worker.
func TestStopLetsRequestsEnd(t *testing.T) {
	s := start(t, "-workers", "1", "-threads", "1")
	pid := s.worker()
	answered := make(chan error, 1)
	go func() { _, err := s.get("/slow?s=1"); answered <- err }()
	impatient := &running{client: &http.Client{Timeout: 100 * time.Millisecond, Transport: s.client.Transport}}
	eventually(t, "the slow request to take the only place", func() bool { return !open(impatient) })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the master's exit: %v", err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("worker %d is still there: %v", pid, err)
	}
}

// open reports whether the site answers.
func open(s *running) bool { _, err := s.get("/health"); return err == nil }

// TestWorkersEndWithTheMaster: a killed master leaves none behind, and none keeps the socket.
func TestWorkersEndWithTheMaster(t *testing.T) {
	s := start(t, "-workers", "2")
	pid := s.worker()
	s.cmd.Process.Kill()
	s.cmd.Wait()
	eventually(t, "the worker to end", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	eventually(t, "the socket to close", func() bool { return !open(s) })
}

func TestDeadWorkerIsReplaced(t *testing.T) {
	s := start(t, "-workers", "1")
	pid := s.worker()
	syscall.Kill(pid, syscall.SIGKILL)
	eventually(t, "another worker", func() bool { return open(s) && s.worker() != pid })
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "site.sock")
	s := start(t, "-workers", "2", "-listen", "unix:"+path)
	if s.worker() == 0 {
		t.Error("no answer over the socket")
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket's file is left behind")
	}
}
