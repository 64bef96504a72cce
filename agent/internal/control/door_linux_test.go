package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

const (
	member   = 65533 // stands on the list
	stranger = 65534
)

// dialAs connects as another user.
func dialAs(t *testing.T, uid int, path string) *net.UnixConn {
	t.Helper()
	c, err := tryAs(t, uid, path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryAs connects as another user: one thread of this process is that user for a moment.
func tryAs(t *testing.T, uid int, path string) (*net.UnixConn, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to be somebody else")
		}
		t.Skip("needs root, to be somebody else")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	be := func(uid int) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			panic(errno)
		}
	}
	be(uid)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	be(0)
	runtime.UnlockOSThread()
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn), nil
}

// ask sends a request with files attached to it and returns the status and the text of its answer.
func ask(t *testing.T, c *net.UnixConn, request string, files ...int) (int, string) {
	t.Helper()
	if err := fdconn.Send(c, []byte(request), files...); err != nil {
		return 0, err.Error()
	}
	return answerOn(c)
}

func answerOn(c *net.UnixConn) (int, string) {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

const getStatus = "GET /v1/status HTTP/1.1\r\nHost: agent\r\n\r\n"

// Nothing that somebody who is not on the list sends is taken in: not a byte, not a descriptor.
func TestRefusedCallersAreNotRead(t *testing.T) {
	socket := serveAt(t, &fake{}, member)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := dialAs(t, stranger, socket)
	code, text := 0, ""
	fdconn.Use(w, func(fd int) error {
		code, text = ask(t, c, getStatus, fd, fd, fd)
		return nil
	})
	w.Close()
	if code != http.StatusForbidden || !strings.Contains(text, "is not allowed here") {
		t.Errorf("answered %d %s", code, text)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF { // returns when no copy of w is open
		t.Errorf("a descriptor is kept: %v", err)
	}
	// One that asks nothing is not waited for.
	c = dialAs(t, stranger, socket)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a silent stranger: %v", err)
	}
}

// However many connections a user holds, the others are answered.
func TestConnectionsOfOneUserAreLimited(t *testing.T) {
	socket := serveAt(t, &fake{status: api.Status{Ready: true}}, member, member-1)
	for _, uid := range []int{stranger, member} {
		var held []*net.UnixConn
		for range 3 * maxUserConns {
			held = append(held, dialAs(t, uid, socket))
		}
		var s api.Status
		if err := api.NewClient(socket).Get(t.Context(), "/v1/status", &s); err != nil || !s.Ready {
			t.Errorf("root: %v", err)
		}
		if code, text := ask(t, dialAs(t, member-1, socket), getStatus); code != http.StatusOK {
			t.Errorf("another user: %d %s", code, text)
		}
		for _, c := range held {
			c.Close()
		}
	}
	socket = serveAt(t, &fake{}, member)
	var held []*net.UnixConn
	for range maxUserConns {
		held = append(held, dialAs(t, member, socket))
	}
	if code, text := ask(t, dialAs(t, member, socket), getStatus); code != http.StatusTooManyRequests || !strings.Contains(text, "too many connections") {
		t.Errorf("one too many: %d %s", code, text)
	}
	runtime.KeepAlive(held)
}

// Who handed in what cannot be closed is refused by the kernel until it can be; nobody waits for that, others least.
func TestWhoHoldsUpClosesMayNotConnect(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	s := &Server{Allowed: func(uint32) bool { return true }, Backend: &fake{status: api.Status{Ready: true}}, Log: planted.Log(t)}
	socket := serveServer(t, s)
	if err := s.Listener.AllowUsers([]uint32{member, member - 1}); err != nil {
		gotool.Need(t, "access lists, and root: "+err.Error())
	}
	fdconn.Closing.Add(member, fdconn.MaxClosing)
	free := sync.OnceFunc(func() { fdconn.Closing.Add(member, -fdconn.MaxClosing) })
	defer free()
	var early []*net.UnixConn
	var err error
	for range most { // until the kernel refuses it
		var c *net.UnixConn
		if c, err = tryAs(t, member, socket); err != nil {
			break
		}
		early = append(early, c)
	}
	for again := time.NewTicker(lookAgain); err == nil; <-again.C {
		_, err = tryAs(t, member, socket)
	}
	if !errors.Is(err, unix.EACCES) {
		t.Fatal(err)
	}
	var status api.Status
	if err := api.NewClient(socket).Get(t.Context(), "/v1/status", &status); err != nil || !status.Ready {
		t.Errorf("root: %v", err)
	}
	if code, text := ask(t, dialAs(t, member-1, socket), getStatus); code != http.StatusOK {
		t.Errorf("another user: %d %s", code, text)
	}
	free()
	for _, c := range early {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection of before was answered")
		}
	}
	for again := time.NewTicker(lookAgain); ; <-again.C { // until the test's own limit
		c, err := tryAs(t, member, socket)
		if err != nil {
			continue
		}
		code, _ := ask(t, c, getStatus)
		if c.Close(); code == http.StatusOK {
			return
		}
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for !f() { // until the test's own limit
		runtime.Gosched()
	}
}

// Of one user's requests four are worked on; root's are not counted.
func TestRequestsOfOneUserAreLimited(t *testing.T) {
	var atWork, most atomic.Int32
	release := make(chan struct{})
	b := &fake{metrics: func() (any, error) {
		n := atWork.Add(1)
		defer atWork.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return nil, nil
	}}
	socket := serveAt(t, b, member)
	const request = "GET /v1/metrics HTTP/1.1\r\nHost: agent\r\n\r\n"
	var wg sync.WaitGroup
	for range 3 * maxAtWork {
		c := dialAs(t, member, socket)
		wg.Go(func() {
			if code, text := ask(t, c, request); code != http.StatusOK {
				t.Errorf("answered %d %s", code, text)
			}
		})
	}
	eventually(t, func() bool { return atWork.Load() == maxAtWork })
	wg.Go(func() {
		if err := api.NewClient(socket).Get(t.Context(), "/v1/metrics", nil); err != nil {
			t.Error(err)
		}
	})
	eventually(t, func() bool { return atWork.Load() == maxAtWork+1 })
	close(release)
	wg.Wait()
	if most.Load() > maxAtWork+1 {
		t.Errorf("%d at work", most.Load())
	}
}

// A client that stops in the middle, or never begins, or leaves its connection open, is not waited for.
func TestStalledClientsAreGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s: the server's own limits")
	}
	t.Parallel()
	socket := serveAt(t, &fake{}, member)
	stalled := map[string]string{
		"a body that never ends":        "POST /v1/runs HTTP/1.1\r\nHost: agent\r\nContent-Length: 9\r\n\r\n{",
		"a body of no route":            "POST /v1/nothing HTTP/1.1\r\nHost: agent\r\nContent-Length: 9\r\n\r\n{",
		"a body of a question":          "GET /v1/status HTTP/1.1\r\nHost: agent\r\nContent-Length: 9\r\n\r\n{",
		"headers that never end":        "GET /v1/status HTTP/1.1\r\nHost: agent\r\n",
		"nothing":                       "",
		"a connection that stays open":  getStatus,
		"one that stays after an error": "GET /v1/nothing HTTP/1.1\r\nHost: agent\r\n\r\n",
	}
	var wg sync.WaitGroup
	for name, text := range stalled {
		c := dialAs(t, member, socket)
		io.WriteString(c, text)
		wg.Go(func() {
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

// What one user may send at once has a limit; arguments longer than that are root's.
func TestBodiesAreLimited(t *testing.T) {
	b := &fake{prepare: func(_ context.Context, _ api.Caller, r api.ExecRequest) (Prepared, error) {
		return nil, &api.Error{Status: http.StatusTeapot, Message: fmt.Sprint(len(r.Args[0]))}
	}}
	socket := serveAt(t, b, member)
	post := func(uid, size int) (int, string) {
		body := fmt.Sprintf(`{"mode":"detached","args":[%q]}`, strings.Repeat("a", size))
		return ask(t, dialAs(t, uid, socket), fmt.Sprintf("POST /v1/runs HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	if code, text := post(member, 255<<10); code != http.StatusTeapot {
		t.Errorf("255 kB: %d %s", code, text)
	}
	if code, text := post(member, 257<<10); code != http.StatusRequestEntityTooLarge || !strings.Contains(text, "256 kB") {
		t.Errorf("257 kB: %d %s", code, text)
	}
	if code, text := post(0, 3<<20); code != http.StatusTeapot {
		t.Errorf("root's 3 MB: %d %s", code, text)
	}
}

// A flood of refusals is one line a minute for each user, with their number; thousands of users are one more.
func TestRefusalsAreSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newRefusals(slog.New(slog.NewTextHandler(&log, nil)))
		for range 1000 {
			r.add(4_000_000_000, "all")
		}
		for uid := range uint32(5000) {
			r.add(4_100_000_000+uid, "all")
		}
		text := func() string { r.mu.Lock(); defer r.mu.Unlock(); s := log.String(); log.Reset(); return s }
		if n := strings.Count(text(), "\n"); n != maxRefused+1 {
			t.Errorf("%d lines at once", n)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if s := text(); !strings.Contains(s, "uid=4000000000 user=4000000000 times=999\n") || !strings.Contains(s, "uid=others user=others times=4968\n") {
			t.Errorf("got %s", s)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := text(); s != "" || len(r.count) > 0 {
			t.Errorf("afterwards: %s, %v", s, r.count)
		}
	})
}

// A connection outlives the list that let it in: its user may be gone, and the number another's.
func TestRequestsAreJudgedByTheListOfNow(t *testing.T) {
	var off atomic.Bool
	s := &Server{Backend: &fake{}, Log: planted.Log(t), Allowed: func(uint32) bool { return !off.Load() }}
	c := dialAs(t, member, serveServer(t, s))
	for _, want := range []int{http.StatusOK, http.StatusForbidden} {
		if code, text := ask(t, c, getStatus); code != want {
			t.Errorf("answered %d %s, want %d", code, text, want)
		}
		off.Store(true)
	}
}

// Each route that waits is one.
func TestWaitingRoutesAreRoutes(t *testing.T) {
	left := map[string]bool{}
	for pattern := range waiting {
		left[pattern] = true
	}
	for _, rt := range (&Server{}).routes() {
		delete(left, rt.pattern)
	}
	if len(left) > 0 {
		t.Errorf("%v", left)
	}
}

// Requests that are stuck lose their places when their clients leave; how many such there are has a limit.
func TestStuckRequestsDoNotLockTheirUserOut(t *testing.T) {
	var atWork atomic.Int32
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	t.Cleanup(free)
	b := &fake{status: api.Status{Ready: true}, metrics: func() (any, error) {
		atWork.Add(1)
		defer atWork.Add(-1)
		<-release
		return nil, nil
	}}
	socket := serveAt(t, b, member)
	for n := range int32(maxAtWork + maxOrphans) {
		c := dialAs(t, member, socket)
		io.WriteString(c, "GET /v1/metrics HTTP/1.1\r\nHost: agent\r\n\r\n")
		eventually(t, func() bool { return atWork.Load() == n+1 })
		if n < maxAtWork+maxOrphans-1 {
			c.Close()
			if code, text := ask(t, dialAs(t, member, socket), getStatus); code != http.StatusOK {
				t.Fatalf("after %d: %d %s", n+1, code, text)
			}
		}
	}
	if code, text := ask(t, dialAs(t, member, socket), getStatus); code != http.StatusTooManyRequests || !strings.Contains(text, "have not ended") {
		t.Errorf("one too many: %d %s", code, text)
	}
	free()
	eventually(t, func() bool { return atWork.Load() == 0 })
	eventually(t, func() bool { code, _ := ask(t, dialAs(t, member, socket), getStatus); return code == http.StatusOK })
}
