package fdconn

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/gotool"
)

// openDir is a directory that others may look into, as /run/agent is.
func openDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		gotool.Need(t, "root, to be another user")
	}
	dir, err := os.MkdirTemp("", "fd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// connects reports what another user gets who dials path.
func connects(t *testing.T, uid uint32, path string) string {
	t.Helper()
	out, err := asUser(t, uid, "FDCONN_TEST_DIAL="+path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// acceptAll closes what comes in, and returns a func that says how many came.
func acceptAll(l *Listener) (came func() int) {
	var mu sync.Mutex
	n := 0
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			n++
			mu.Unlock()
			c.Close() // which the client waits for
		}
	}()
	return func() int { mu.Lock(); defer mu.Unlock(); return n }
}

// The kernel refuses whoever may not connect: no thread, no memory and no descriptor of the listener's is spent on it.
func TestOnlyUsersMayConnect(t *testing.T) {
	path := filepath.Join(openDir(t), "s")
	l, err := Listen(path, []uint32{65533})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	came := acceptAll(l)
	expect := func(what string, uid uint32, want string, total int) {
		t.Helper()
		if got := connects(t, uid, path); !strings.Contains(got, want) || came() != total {
			t.Errorf("%s: user %d got %q, want %q; %d came, want %d", what, uid, got, want, came(), total)
		}
	}
	expect("a user of the list", 65533, "EOF", 1)
	expect("a stranger", 65534, "permission denied", 1)
	if err := l.AllowUsers([]uint32{65534}); err != nil {
		t.Fatal(err)
	}
	expect("a user taken off", 65533, "permission denied", 1)
	expect("a user put on", 65534, "EOF", 2)
	if err := l.AllowUsers(nil); err != nil {
		t.Fatal(err)
	}
	expect("an empty list", 65534, "permission denied", 2)
	expect("root", 0, "EOF", 3)
	if info, _ := os.Lstat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	// A name of the same socket somewhere else is the same socket.
	link := filepath.Join(openDir(t), "link")
	if err := os.Link(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, fmt.Sprintf("/proc/%d/root%s", os.Getpid(), path), "/proc/self/root" + path} {
		if got := connects(t, 65534, name); !strings.Contains(got, "permission denied") {
			t.Errorf("a stranger at %s got %q", name, got)
		}
	}
}

// Where others may connect, whoever is not admitted is closed before anything is read.
func TestAdmitDecidesAtAccept(t *testing.T) {
	path := filepath.Join(openDir(t), "s")
	l, err := Listen(path, []uint32{65534})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Admit = Peer.Owner
	came := acceptAll(l)
	if got := connects(t, 65534, path); !strings.Contains(got, "EOF") || came() != 0 {
		t.Errorf("a stranger got %q; %d came", got, came())
	}
	if connects(t, 0, path); came() != 1 {
		t.Errorf("%d came of root", came())
	}
}

// Between bind and chmod a socket has whatever the umask leaves of 0777.
func TestSocketIsNeverOpenerThanAskedFor(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir := openDir(t)
	var seen fs.FileMode
	path := filepath.Join(dir, "bound")
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { setPrivate(int(fd)) })
	}}
	l, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, _ := os.Lstat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("when it is bound its mode is %v", info.Mode())
	}

	// And at its own name none but the one asked for is ever seen, however often it is made.
	path = filepath.Join(dir, "s")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			l, err := Listen(path, []uint32{65533})
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
		}
	}()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		if info, err := os.Lstat(path); err == nil {
			seen |= info.Mode().Perm()
		}
	}
	if seen != 0o660 { // the group's bits are the ACL's mask
		t.Errorf("modes seen: %v", seen)
	}
}

// ramfs keeps no ACLs.
func TestWithoutACLsEverybodyMayConnect(t *testing.T) {
	dir := openDir(t)
	if err := unix.Mount("none", dir, "ramfs", 0, "mode=755"); err != nil {
		gotool.Need(t, "to mount a file system: "+err.Error())
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "s")
	l, err := Listen(path, []uint32{65533})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	acceptAll(l)
	if got := connects(t, 65534, path); !strings.Contains(got, "EOF") {
		t.Errorf("a stranger got %q", got)
	}
	if err := l.AllowUsers([]uint32{65533}); !errors.Is(err, ErrNoACL) {
		t.Errorf("got %v", err)
	}
	if err := l.AllowUsers(nil); err != nil {
		t.Errorf("no users need no ACL: %v", err)
	}
	if got := connects(t, 65534, path); !strings.Contains(got, "permission denied") {
		t.Errorf("a stranger got %q, where nobody is on the list", got)
	}
}

func TestCloseRemovesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "s"), filepath.Join(dir, "other")
	l, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's socket was removed: %v", err)
	}
}

func TestPathTooLongIsSaidSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("a", 120))
	_, listen := Listen(path, nil)
	_, dial := Dial(t.Context(), path)
	for _, err := range []error{listen, dial} {
		if err == nil || !strings.Contains(err.Error(), "the system takes 106") {
			t.Errorf("got %v", err)
		}
	}
}

// lingering returns a socket that, closed last, holds its thread for an hour: what it was given to send is not read.
func lingering(t *testing.T, l net.Listener) *os.File {
	t.Helper()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	defer near.Close()
	if err := near.(*net.TCPConn).SetLinger(3600); err != nil {
		t.Fatal(err)
	}
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	for err == nil {
		_, err = near.Write(make([]byte, 1<<20))
	}
	f, err := near.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Some sixty of them were the end of the agent.
func TestLingeringDescriptorsHoldNoThread(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, end := range map[string]func(*Conn){
		"received and closed":  func(c *Conn) { c.Read(make([]byte, 1)); c.Close() },
		"received and taken":   func(c *Conn) { c.Read(make([]byte, 1)); CloseAll(c.Peer().UID, c.Take()); c.Close() },
		"never received":       func(c *Conn) { c.Close() },
		"too many, so refused": func(c *Conn) { c.Read(make([]byte, 1)); c.Read(make([]byte, 1)); c.Close() },
		"looked at, not read":  func(c *Conn) { c.AwaitBytes(time.Second); c.Close() },
	} {
		server, client := pair(t)
		for range 2 { // messages
			var fds []int
			var files []*os.File
			for range MaxFiles/2 + 1 {
				f := lingering(t, tcp)
				files, fds = append(files, f), append(fds, fdOf(t, f))
			}
			if err := Send(client.UnixConn, []byte("G"), fds...); err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				f.Close() // what is in flight is the last copy
			}
		}
		client.Close()
		end(server) // or is held for an hour
	}
	for deadline := time.Now().Add(time.Minute); len(Closing.All()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("closes that have not ended, by user: %v", Closing.All())
		}
	}
}

// A listener's queue may be full of others.
func TestDialWaitsWhileTheQueueIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := net.Dial("unix", path); !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("the queue is not full: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { unix.Accept(fd) })
	second, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// What is read below /proc/PID is the caller's only while its pid is.
func TestPeerLivesUntilItIsGone(t *testing.T) {
	path := filepath.Join(openDir(t), "s")
	l, err := Listen(path, []uint32{65534})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := asUser(t, 65534, "FDCONN_TEST_DIAL="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.(*Conn).PeerLives() {
		t.Error("it lives")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if c.(*Conn).PeerLives() {
		t.Error("it is gone")
	}
}
