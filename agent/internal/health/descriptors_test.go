package health

import (
	"bufio"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/fdconn"
)

// The answer of an application at a UNIX socket that sends descriptors with it is refused, unread: whoever reads it closes
// them, and the last close of some takes an hour, or for ever.
func TestDescriptorsWithAnAnswerAreRefused(t *testing.T) {
	socket := t.TempDir() + "/s"
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for r := bufio.NewReader(c); ; {
			if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
				break
			}
		}
		const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		if err := fdconn.Send(c.(*net.UnixConn), []byte(answer), int(write.Fd())); err != nil && !errors.Is(err, syscall.EPIPE) {
			t.Error(err)
		}
		write.Close()
	}()
	v := newChecker(t, Config{Target: "unix:" + socket + ":/up", Host: host("www.example.com")}).Check(t.Context())
	if v.Status != 503 || !strings.Contains(v.Reason, "file descriptors") {
		t.Errorf("got %+v", v)
	}
}
