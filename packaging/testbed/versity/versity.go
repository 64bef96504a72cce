// Package versity runs a real S3 server for tests, behind a network that does its worst.
package versity

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// The credentials that the server knows.
const (
	AccessKey = "testaccess"
	SecretKey = planted.Value
)

// Start runs two processes of versitygw on one directory with one bucket, and returns their URLs.
func Start(t testing.TB, bucket string) []string {
	t.Helper()
	bin, dir := gotool.Build(t, gotool.VersityGW), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		cmd := exec.Command(bin, "--port", addr, "-a", AccessKey, "-s", SecretKey, "--quiet", "--keep-alive", "posix", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		awaitPort(t, addr)
		urls = append(urls, "http://"+addr)
	}
	return urls
}

func awaitPort(t testing.TB, addr string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens on %s after 30 s", addr)
		}
	}
}

// Faulty stands between clients and a server and does to a share of requests what networks do: drops them, before or
// after they took effect, delays, duplicates and answers 500, before or after.
func Faulty(t testing.TB, target string, share float64) string {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		forward := func() *http.Response {
			out, _ := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.RequestURI(), bytes.NewReader(body))
			out.Header, out.Host = r.Header.Clone(), r.Host // the host is part of the signature
			resp, err := transport.RoundTrip(out)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			return resp
		}
		fault := -1
		if rand.Float64() < share {
			fault = rand.IntN(6)
		}
		switch fault {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(500)
			return
		case 2:
			select {
			case <-time.After(rand.N(400 * time.Millisecond)):
			case <-r.Context().Done(): // what the sender gave up on may still arrive
			}
		case 3:
			forward().Body.Close()
		}
		resp := forward()
		defer resp.Body.Close()
		switch fault {
		case 4:
			panic(http.ErrAbortHandler)
		case 5:
			w.WriteHeader(500)
			return
		}
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	t.Cleanup(h.Close)
	return h.URL
}
