package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/session"
)

// A client sends descriptors, arguments and variables, so it asks the kernel who listens before it sends anything:
// whoever may make a file at the socket's path would get them.
func TestNothingIsSentToAStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, to let somebody else listen")
		}
		t.Skip("needs root, to let somebody else listen")
	}
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chown(dir, 65534, 65534), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{thisBinary(t)}
	cmd.Env = []string{"API_TEST_LISTEN=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil { // "ready\n"
		t.Fatal(err)
	}
	c := NewClient(socket)
	asked := map[string]error{"status": c.Get(t.Context(), "/v1/status", nil), "post": c.Post(t.Context(), "/v1/reload", nil, nil)}
	_, asked["exec"] = c.Exec(t.Context(), ExecRequest{Args: []string{"planted-5c1e"}, Mode: Pipes}, os.Stdin, os.Stdout, os.Stderr)
	_, asked["attach"] = c.Attach(t.Context(), "planted-5c1e", session.Size{})
	_, asked["logs"] = c.Stream(t.Context(), Path("runs", "planted-5c1e", "output"))
	for verb, err := range asked {
		e, ok := errors.AsType[*Error](err)
		if !ok || !strings.Contains(e.Message, "somebody else (user 65534) answers at "+socket) || e.Hint == "" || e.Exit != 125 {
			t.Errorf("%s: %v", verb, err)
		}
	}
	stop.Close()
	got, err := io.ReadAll(out)
	if err != nil || len(got) > 0 {
		t.Errorf("the stranger got %q, %v", got, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// listenAsStranger prints whatever it is sent, and answers each client with an empty run, until stdin ends.
func listenAsStranger(socket string) {
	ln, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	os.Chmod(socket, 0o666)
	fmt.Println("ready")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			os.Stdout.Write(b[:n])
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			c.Close()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}
