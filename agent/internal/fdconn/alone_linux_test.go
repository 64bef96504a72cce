package fdconn

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection of which nothing or only bytes are unread is closed by whoever likes; one with which a descriptor came,
// wherever among the bytes, apart: closing that may hang.
func TestOnlyDescriptorsAreClosedApart(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	bytes := make([]byte, 20<<10)
	for name, c := range map[string]struct {
		send func(*net.UnixConn)
		want bool
	}{
		"nothing":                 {func(*net.UnixConn) {}, true},
		"its end":                 {func(c *net.UnixConn) { c.Close() }, true},
		"bytes":                   {func(c *net.UnixConn) { c.Write(bytes); c.Write(bytes) }, true},
		"a descriptor":            {func(c *net.UnixConn) { Send(c, bytes[:1], int(file.Fd())) }, false},
		"bytes, a descriptor":     {func(c *net.UnixConn) { c.Write(bytes); Send(c, bytes[:1], int(file.Fd())) }, false},
		"a descriptor, and bytes": {func(c *net.UnixConn) { Send(c, bytes, int(file.Fd())); c.Write(bytes) }, false},
	} {
		path := t.TempDir() + "/s"
		l, err := Listen(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.send(theirs.UnixConn)
		if got := drained(ours.(*Conn).UnixConn); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if _, err := theirs.Write(bytes[:1]); err == nil {
			t.Errorf("%s: more comes afterwards", name)
		}
		theirs.Close()
		ours.Close()
		l.Close()
	}
}

// What comes with a descriptor is not read where none are taken: its number is never this process's, and closing the
// connection frees it.
func TestAloneTakesNoDescriptors(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Alone = true
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("GET /"))
	b := make([]byte, 100)
	if n, err := ours.Read(b); string(b[:n]) != "GET /" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if err := Send(c.UnixConn, []byte("x"), p[1]); err != nil {
		t.Fatal(err)
	}
	pipe := target("/proc/self/fd", p[1])
	unix.Close(p[1])
	if n, err := ours.Read(b); n != 0 || !errors.Is(err, ErrFiles) {
		t.Errorf("read %q, %v", b[:n], err)
	}
	open := slices.DeleteFunc(targets("/proc/self/fd"), func(s string) bool { return s != pipe })
	if len(open) != 1 { // the end that is read
		t.Errorf("its number is here: %q", open)
	}
	ours.Close()
	if n, err := unix.Read(p[0], b); n != 0 || err != nil {
		t.Errorf("the pipe's other end is still open: %d, %v", n, err)
	}
}

// Nor does one that takes none drop those that come with a byte out of band: the last close of a socket that lingers
// would be the thread's that reads, or closes the connection.
func TestDescriptorsOutOfBandAreSeen(t *testing.T) {
	for name, before := range map[string]string{"nothing else": "", "after others": "hello"} {
		t.Run(name, func(t *testing.T) {
			l, err := Listen(t.TempDir()+"/s", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.Alone = true
			c, err := Dial(t.Context(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ours, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
				t.Fatal(err)
			}
			defer unix.Close(p[0])
			c.Write([]byte(before))
			err = Use(c.UnixConn, func(fd int) error {
				return unix.Sendmsg(fd, []byte("!"), unix.UnixRights(p[1]), nil, unix.MSG_OOB)
			})
			unix.Close(p[1])
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this kernel has no data out of band at UNIX sockets")
			}
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			if n, err := ours.Read(b[:max(len(before), 1)]); before != "" && (string(b[:n]) != before || err != nil) {
				t.Errorf("read %q, %v", b[:n], err)
			} else if before == "" && !errors.Is(err, ErrFiles) {
				t.Errorf("read %q, %v", b[:n], err)
			}
			if n, err := ours.Read(b); n != 0 || !errors.Is(err, ErrFiles) {
				t.Errorf("then %q, %v", b[:n], err)
			}
			if _, err := unix.Read(p[0], b); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("the descriptor was closed by the thread that read: %v", err)
			}
		})
	}
}
