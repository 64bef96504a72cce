package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/agent/internal/lifecycle"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/agent/internal/session"
	"beanstalk-agent/packaging/testbed/planted"
)

// TestMain lets a test start this binary again as what a supervisor really is: a process of its own, the
// parent of what it starts. A supervisor within the test would collect the test's own children.
func TestMain(m *testing.M) {
	if role := roles[os.Getenv("SUPERVISOR_TEST_ROLE")]; role != nil {
		os.Exit(role())
	}
	os.Exit(m.Run())
}

var roles = map[string]func() int{"supervisor": superviseMain, "client": clientMain}

func superviseMain() int {
	var cfg Config
	if err := json.Unmarshal([]byte(os.Getenv("SUPERVISOR_TEST_CONFIG")), &cfg); err != nil {
		panic(err)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Ready = func() { fmt.Println("ready") }
	cfg.Ending = lifecycle.Extend
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, cfg); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, ErrRetired) {
			return 3
		}
		return 1
	}
	return 0
}

// clientMain is `agent exec` without the agent: it stands where the agent stands, hands its own end of a
// socket pair over, and runs the session on the other.
func clientMain() int {
	var req runs.Request
	if err := json.Unmarshal([]byte(os.Getenv("SUPERVISOR_TEST_REQUEST")), &req); err != nil {
		panic(err)
	}
	c := &runs.Client{Socket: os.Getenv("SUPERVISOR_TEST_SOCKET")}
	files := []int{0, 1, 2}
	if req.IO != runs.IOPipes {
		files = nil
	}
	s, err := openSession(c, func(h runs.Handover) error {
		h.Files = files
		if id := os.Getenv("SUPERVISOR_TEST_ATTACH"); id != "" {
			h.Files = nil
			_, err := c.Attach(context.Background(), id, req.Size, h)
			return err
		}
		_, err := c.Start(context.Background(), req, h)
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if r, ok := errors.AsType[*runs.Refused](err); ok {
			return r.Code
		}
		return 125
	}
	code, err := s.Run(context.Background(), session.Options{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	return code
}

// openSession plays the agent between a client and the supervisor: a real server that hijacks the
// client's connection and hands it over.
func openSession(c *runs.Client, hand func(runs.Handover) error) (*session.Conn, error) {
	// Beside the supervisor's socket, in the test's own directory: a client may be killed here.
	l, err := fdconn.Listen(fmt.Sprintf("%s/%d", filepath.Dir(c.Socket), os.Getpid()), nil)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var handErr error
	srv := &http.Server{ConnContext: fdconn.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		if handErr = hand(runs.Handover{Conn: conn.(syscall.Conn)}); handErr != nil {
			session.WriteRefusal(conn, &session.Refusal{Status: 409, Exit: 125, Message: handErr.Error()})
		}
	})}
	go srv.Serve(l)
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return nil, err
	}
	req, _ := http.NewRequest("POST", "http://agent/v1/exec", strings.NewReader("{}"))
	s, err := session.Open(conn.(*net.UnixConn), req)
	if err != nil && handErr != nil {
		err = handErr
	}
	return s, err
}

// daemon is a supervisor under test.
type daemon struct {
	*runs.Client
	cfg Config
	cmd *exec.Cmd
	log *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t testing.TB, change ...func(*Config)) *daemon {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{Socket: filepath.Join(dir, "s"), StateDir: filepath.Join(dir, "state"), Version: "test", AllowUsers: []string{"*"}, AllowRoot: true}
	for _, f := range change {
		f(&cfg)
	}
	d := &daemon{Client: &runs.Client{Socket: cfg.Socket}, cfg: cfg}
	d.restart(t)
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.cmd.Wait()
	})
	return d
}

// restart starts the process, again after it has ended.
func (d *daemon) restart(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.cmd, d.log = self("supervisor", "SUPERVISOR_TEST_CONFIG="+string(text)), &syncBuffer{}
	d.cmd.Stderr = io.MultiWriter(d.log, t.Output())
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("supervisor said %q (%v): %s", line, err, d.log)
	}
}

func self(role string, env ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "SUPERVISOR_TEST_ROLE="+role)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// client returns a client process for a run, not yet started.
func (d *daemon) client(req runs.Request) *exec.Cmd {
	text, err := json.Marshal(req)
	if err != nil {
		panic(err)
	}
	return self("client", "SUPERVISOR_TEST_SOCKET="+d.Socket, "SUPERVISOR_TEST_REQUEST="+string(text))
}

// request is a shell command of this process's own user.
func request(line string) runs.Request {
	return argv("/bin/sh", "-c", line)
}

func argv(args ...string) runs.Request {
	return runs.Request{Args: args, Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin:/" + planted.Value, "PLANTED=" + planted.Value}, IO: runs.IOPipes, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

func spooled(line string) runs.Request {
	r := request(line)
	r.IO, r.Detached = runs.IOSpool, true
	return r
}

// eventually waits for a condition, looking again every few milliseconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func devNull(t testing.TB) int {
	t.Helper()
	fd, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}
