package fdconn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"beanstalk-agent/packaging/testbed/hung"
)

// What is refused never has a number among this process's, and is closed; what passes has one, and is the same file.
func TestDescriptorsAreCheckedBeforeTheyAreHere(t *testing.T) {
	l := listen(t)
	var apart, here []string
	l.Check = func(files []int) error {
		apart, here = targets("/proc/thread-self/fd"), targets("/proc/self/fd")
		if len(files) == 2 {
			return errors.New("two are refused")
		}
		return nil
	}
	client, err := Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	server := accepted.(*Conn)
	b := make([]byte, 10)
	for n := 1; n <= 2; n++ {
		r, w := pipe(t)
		fds := []int{fdOf(t, w), fdOf(t, w)}
		if err := Send(client.UnixConn, []byte("hello"), fds[:n]...); err != nil {
			t.Fatal(err)
		}
		name := target("/proc/self/fd", fds[0])
		w.Close()
		if got, err := server.Read(b); string(b[:max(got, 0)]) != "hello" || err != nil {
			t.Fatalf("read %q, %v", b[:max(got, 0)], err)
		}
		if len(apart) > 3+2+n+2 || !slices.Contains(apart, name) {
			t.Errorf("the thread has %q", apart)
		}
		if i := slices.Index(here, name); i < 0 || slices.Contains(here[i+1:], name) { // the end that is read
			t.Errorf("when it is checked this process has %q", here)
		}
		files := server.Take()
		if refused := server.Refused(); (refused != nil) != (n == 2) || len(files) != n%2 {
			t.Fatalf("%d descriptors are here, refused: %v", len(files), refused)
		}
		for _, fd := range files {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("it has flags %#x (%v), want close-on-exec", flags, err)
			}
		}
		if n == 1 && target("/proc/self/fd", files[0]) != name {
			t.Errorf("it is %q, want %q", target("/proc/self/fd", files[0]), name)
		}
		CloseAll(0, files)
		if _, err := r.Read(b); err != io.EOF { // returns when no copy is open
			t.Error(err)
		}
	}
	if err := Send(client.UnixConn, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(b); n != 0 || !errors.Is(err, ErrFiles) {
		t.Errorf("after a refusal it takes more: %d, %v", n, err)
	}
}

// A file whose close is never answered hangs where it was received, alone: its receiver goes on, and when it is killed
// it leaves neither its lock nor its socket.
func TestRefusedFilesLeaveNothingWithAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	holder := hold(t, path, "FDCONN_TEST_REFUSE=1") // before the files are: a child would have to close them
	file := hung.Unclosed(t)
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = Send(c.UnixConn, []byte("x"), fd, fd, fd)
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error("it does not go on: ", err)
	}
	soon(t, "a thread of it hangs", func() bool { return hangs(holder.Process.Pid) })
	holder.Process.Kill()
	var l *Listener
	soon(t, "another may listen", func() bool { l, err = Listen(path, nil); return err == nil })
	if !hangs(holder.Process.Pid) {
		t.Error("it does not hang any more: nothing is shown")
	}
	if l != nil {
		l.Close()
	}
}

func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not within 20 s: %s", what)
			return
		}
	}
}

// hangs reports whether a thread of a process is in a wait that no signal ends.
func hangs(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(stats, func(name string) bool {
		text, _ := os.ReadFile(name)
		_, after, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(after, "D")
	})
}

func BenchmarkReadWithThreeDescriptors(b *testing.B) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(null)
	for name, check := range map[string]func([]int) error{"here": nil, "apart": func([]int) error { return nil }} {
		b.Run(name, func(b *testing.B) {
			l, err := Listen(filepath.Join(b.TempDir(), "s"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			l.Check = check
			client, err := Dial(b.Context(), l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			for b.Loop() {
				if err := Send(client.UnixConn, []byte("x"), null, null, null); err != nil {
					b.Fatal(err)
				}
				if _, err := server.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				closeEach(server.(*Conn).Take())
			}
		})
	}
}
