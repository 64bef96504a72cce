package fdconn

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A greeting, an exit, a refusal is taken whole or given up: never waited for, never in part without an error.
func TestWhatIsWrittenNowIsNotWaitedFor(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer conns[i].Close()
	}
	w := Now{conns[0].(*net.UnixConn)}
	if n, err := w.Write([]byte("hello")); n != 5 || err != nil {
		t.Errorf("on an empty connection: %d, %v", n, err)
	}
	if n, err := w.Write(make([]byte, 16<<20)); n == 16<<20 || err == nil {
		t.Errorf("more than it has room for: %d, %v", n, err)
	}
	if n, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); n > 0 || err == nil {
		t.Errorf("on a full one: %d, %v", n, err)
	}
	io.ReadFull(conns[1], make([]byte, 1<<10))
	conns[1].Close()
	if n, err := w.Write([]byte("hello")); n > 0 || err == nil {
		t.Errorf("to one that is gone: %d, %v", n, err)
	}
}
