package daemon

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/agent/internal/fdconn"
	"beanstalk-agent/packaging/testbed/planted"
)

// Where nginx's workers run as the application's user, that user can attach to a connection what cannot be closed, each
// with a thread of the agent's. With as many as may hang the kernel refuses that user, who may connect when they end.
func TestNginxsUserWhoHoldsUpClosesMayNotConnect(t *testing.T) {
	uid := uint32(os.Geteuid())
	path := filepath.Join(t.TempDir(), "health.sock")
	ln, err := listenForNginx(path, []uint32{uid}, planted.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn)
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial()
	(<-accepted).Close()
	if _, err := io.ReadAll(first); err != nil {
		t.Errorf("the first: %v", err)
	}

	fdconn.Closing.Add(uid, fdconn.MaxClosing) // as many hang
	held := dial()
	l := ln.(*nginxListener)
	until := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("waited a minute for ", what)
			}
		}
	}
	mode := func() os.FileMode {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	until("the connection to be kept", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.kept[uid]) == 1 })
	held.SetReadDeadline(time.Now().Add(2 * lookAgain))
	if _, err := held.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection whose close might hang: %v", err)
	}
	if mode() != 0o600 {
		t.Errorf("the kernel does not refuse the user: mode %v", mode())
	}
	fdconn.Closing.Add(uid, -fdconn.MaxClosing)
	held.SetReadDeadline(time.Time{})
	if _, err := held.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("it is not closed afterwards: %v", err)
	}
	until("the user to be let in", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.kept) == 0 })
	dial()
	(<-accepted).Close()
}
