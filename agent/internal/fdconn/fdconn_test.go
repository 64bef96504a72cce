package fdconn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets a test start this binary again as a process that holds a socket until it is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("FDCONN_TEST_HOLD"); path != "" {
		l, err := Listen(path, nil)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if os.Getenv("FDCONN_TEST_REFUSE") != "" {
			l.Check = func([]int) error { return errors.New("refused") }
		}
		fmt.Println("held")
		for {
			c, err := l.Accept()
			if err != nil {
				os.Exit(1)
			}
			go io.Copy(c, c) // what descriptors come with is refused
		}
	}
	if path := os.Getenv("FDCONN_TEST_DIAL"); path != "" {
		c, err := dial(context.Background(), path)
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // until the other end has looked
		}
		fmt.Print(err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOobSize(t *testing.T) {
	if oobSize < oobSpace {
		t.Errorf("oobSize is %d, the system needs %d for %d descriptors", oobSize, oobSpace, MaxFiles)
	}
}

// pair returns both ends of a real connection.
func pair(t *testing.T) (server, client *Conn) {
	t.Helper()
	l := listen(t)
	client, err := Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); c.Close() })
	return c.(*Conn), client
}

func listen(t *testing.T) *Listener {
	t.Helper()
	l, err := Listen(filepath.Join(t.TempDir(), "s"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func fdOf(t *testing.T, f *os.File) (n int) {
	t.Helper()
	if err := Use(f, func(fd int) error { n = fd; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPeerIsThisProcess(t *testing.T) {
	server, client := pair(t)
	want := Peer{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: os.Getpid()}
	if server.Peer() != want || client.Peer() != want {
		t.Errorf("server sees %+v, client sees %+v, want %+v", server.Peer(), client.Peer(), want)
	}
}

// Reason: descriptors that ride on the request itself must survive net/http's reading ahead, every time.
func TestDescriptorsArriveWithHTTPRequests(t *testing.T) {
	l := listen(t)
	srv := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := FromContext(r.Context())
		if !ok {
			http.Error(w, "no connection in context", 500)
			return
		}
		io.Copy(io.Discard, r.Body)
		for _, fd := range c.Take() {
			f := os.NewFile(uintptr(fd), "taken")
			fmt.Fprintf(f, "from %s", r.URL.Path)
			f.Close()
		}
	})}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	defer wg.Wait()
	defer srv.Close()

	for i := range 200 {
		r, w := pipe(t)
		c, err := Dial(t.Context(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		req, _ := http.NewRequest("POST", fmt.Sprintf("http://agent/%d", i), strings.NewReader("{}"))
		req.Write(&b)
		if err := Send(c.UnixConn, b.Bytes(), fdOf(t, w)); err != nil {
			t.Fatal(err)
		}
		w.Close()
		resp, err := http.ReadResponse(bufio.NewReader(c), req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("request %d: %v, %v", i, resp, err)
		}
		got, _ := io.ReadAll(r)
		if want := fmt.Sprintf("from /%d", i); string(got) != want {
			t.Fatalf("request %d: descriptor carried %q, want %q", i, got, want)
		}
		c.Close()
	}
}

func TestCloseClosesDescriptorsNotTaken(t *testing.T) {
	server, client := pair(t)
	r, w := pipe(t)
	if err := Send(client.UnixConn, []byte("x"), fdOf(t, w)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	server.Close()
	r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("pipe after Close: %v, want EOF because no copy of its writing end is open", err)
	}
}

func TestReceivedDescriptorsAreCloseOnExec(t *testing.T) {
	server, client := pair(t)
	_, w := pipe(t)
	if err := Send(client.UnixConn, []byte("x"), fdOf(t, w), fdOf(t, w)); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(server, make([]byte, 1))
	files := server.Take()
	defer CloseAll(0, files)
	if len(files) != 2 {
		t.Fatalf("took %d descriptors, want 2", len(files))
	}
	for _, fd := range files {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d has flags %#x (%v), want close-on-exec", fd, flags, err)
		}
	}
	if again := server.Take(); again != nil {
		t.Errorf("second Take returned %v", again)
	}
}

// Reason: every user of exec.allow may connect; none may fill the agent's descriptor table.
func TestTooManyDescriptorsAreRefusedAndClosed(t *testing.T) {
	server, client := pair(t)
	r, w := pipe(t)
	many := make([]int, MaxFiles+1)
	for i := range many {
		many[i] = fdOf(t, w)
	}
	if err := Send(client.UnixConn, []byte("x"), many[:MaxFiles]...); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatalf("%d descriptors: %v", MaxFiles, err)
	}
	if err := Send(client.UnixConn, []byte("x"), many...); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, ErrTooManyFiles) {
		t.Errorf("read gave %v, want ErrTooManyFiles", err)
	}
	w.Close()
	r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("pipe after refusal: %v, want EOF", err)
	}
}

func TestLiveSocketIsRefusedWithItsPID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	holder := hold(t, path)
	_, err := Listen(path, nil)
	var inUse *InUse
	if !errors.As(err, &inUse) || inUse.PID != holder.Process.Pid || inUse.Path != path {
		t.Fatalf("listen gave %v, want InUse with pid %d", err, holder.Process.Pid)
	}

	holder.Process.Kill()
	holder.Wait()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("a killed process cannot have removed its socket: %v", err)
	}
	l, err := Listen(path, nil)
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	defer l.Close()
	if info, _ := os.Lstat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, want 0600", info.Mode())
	}
}

func hold(t *testing.T, path string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), "FDCONN_TEST_HOLD="+path), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder said %q (%v)", line, err)
	}
	return cmd
}

// Reason: litestream's server unlinks without asking; a second daemon then steals a live socket.
func TestSocketServedWithoutLockIsNotStolen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	plain, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var inUse *InUse
	if _, err := Listen(path, nil); !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Errorf("listen gave %v, want InUse with our own pid", err)
	}
}

func TestOrdinaryFileIsNotRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, nil); err == nil {
		t.Error("listened in place of an ordinary file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("file now holds %q", b)
	}
}

func TestDirectoryThatAnybodyMayWriteIsRefused(t *testing.T) {
	dir := t.TempDir()
	for mode, ok := range map[os.FileMode]bool{0o777: false, 0o777 | os.ModeSticky: true, 0o755: true, 0o700: true} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(filepath.Join(dir, "s"), nil)
		if (err == nil) != ok {
			t.Errorf("directory of mode %v: %v", mode, err)
		}
		if l != nil {
			l.Close()
		}
	}
}

// The owner of a directory may rename what is in it, also where the sticky bit keeps others from that.
func TestDirectoryOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have a directory of somebody else's")
	}
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o755} {
		dir := t.TempDir()
		if err := errors.Join(os.Chown(dir, 65534, 65534), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(filepath.Join(dir, "s"), nil)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), " belongs to ") {
			t.Errorf("directory of mode %v: %v", mode, err)
		}
	}
}

// A group may rename what is in a directory that it may write.
func TestDirectoryOfAnotherGroupIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have a directory of another group")
	}
	for group, ok := range map[int]bool{65534: false, 0: true} {
		dir := t.TempDir()
		if err := errors.Join(os.Chown(dir, 0, group), os.Chmod(dir, 0o775)); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(filepath.Join(dir, "s"), nil)
		if err == nil {
			l.Close()
		}
		if (err == nil) != ok {
			t.Errorf("directory that group %d may write: %v", group, err)
		}
	}
}

// asUser is this binary, to be run by another user.
func asUser(t *testing.T, uid uint32, env ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { binary.Close() })
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{binary}
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// A stranger who was there first is no agent that is running already.
func TestStrangerAtTheSocketIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to let somebody else listen")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o777|os.ModeSticky), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	cmd := asUser(t, 65534, "FDCONN_TEST_HOLD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatal(line, err)
	}
	os.Remove(path + ".lock") // else the lock is in the way already
	_, err = Listen(path, nil)
	if s, ok := errors.AsType[*Stranger](err); !ok || s.UID != 65534 {
		t.Errorf("got %v", err)
	}
}

// Of many that start at once over a stale socket exactly one may win.
func TestOneWinnerOverStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale := hold(t, path)
	stale.Process.Kill()
	stale.Wait()
	var wg sync.WaitGroup
	results := make(chan *Listener, 16)
	for range cap(results) {
		wg.Go(func() {
			l, err := Listen(path, nil)
			if err != nil && !errors.As(err, new(*InUse)) {
				t.Errorf("listen gave %v", err)
			}
			results <- l
		})
	}
	wg.Wait()
	won := 0
	for range cap(results) {
		if l := <-results; l != nil {
			won++
			defer l.Close()
		}
	}
	if won != 1 {
		t.Errorf("%d listeners won, want 1", won)
	}
}

func FuzzParseRights(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 32))
	f.Add([]byte{17, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9, 9, 9, 9})
	for _, files := range []int{1, 2} { // cut in the middle of a descriptor
		b := unix.UnixRights(make([]int, files)...)
		b[0]-- // the least byte of its length, where the machine is little-endian
		f.Add(b)
	}
	two := append(unix.UnixRights(3), unix.UnixRights(4, 5, 6)...)
	f.Add(two)
	f.Add(two[:len(two)-4])
	f.Add(append(unix.UnixRights(-1), 0xff))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Must not panic: it never touches the descriptors it names.
		if files, err := parseRights(b); err != nil && files != nil || unix.CmsgLen(0)+4*len(files) > len(b) && len(files) > 0 {
			t.Errorf("%d bytes gave %d descriptors, %v", len(b), len(files), err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	l, err := Listen(filepath.Join(b.TempDir(), "s"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	client, err := Dial(context.Background(), l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		client.Write(buf)
		if _, err := io.ReadFull(server, buf); err != nil {
			b.Fatal(err)
		}
	}
	runtime.KeepAlive(l)
}
