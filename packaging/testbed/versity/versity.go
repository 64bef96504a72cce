// Package versity runs a real S3 server for tests, behind a network that does its worst.
package versity

import (
	"bytes"
	crand "crypto/rand"
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
	for len(urls) < 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		mark := "/" + crand.Text()
		cmd := exec.Command(bin, "--port", addr, "--health", mark, "-a", AccessKey, "-s", SecretKey, "--quiet", "--keep-alive", "posix", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() { defer close(gone); cmd.Wait() }()
		t.Cleanup(func() { cmd.Process.Kill(); <-gone })
		if answers(t, "http://"+addr+mark, gone) {
			urls = append(urls, "http://"+addr)
		}
	}
	return urls
}

// answers waits until a server answers where no other would, and reports whether it does: its port may have
// become another test's just before, which then gets what was meant for it.
func answers(t testing.TB, url string, gone <-chan struct{}) bool {
	t.Helper()
	client := http.Client{Timeout: time.Second} // who has the port need not answer at all
	for deadline := time.Now().Add(time.Minute); ; {
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody answers at %s after a minute", url)
		}
		select {
		case <-gone:
			return false
		case <-time.After(10 * time.Millisecond):
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
