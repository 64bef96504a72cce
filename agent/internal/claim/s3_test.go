package claim

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"beanstalk-agent/packaging/testbed/gotool"
)

// fakeS3 is one bucket in memory, for tests in which time or a single answer matters. It is faithful about conditions,
// unless told to ignore them, in which case it must make the contest fail. It knows nothing of signatures, permissions
// or AWS's own consistency; the contest against versitygw is what those tests stand on.
type fakeS3 struct {
	ignoreConditions bool

	// Optional. before may answer in the bucket's place; after may do so once a request has taken effect.
	before, after func(w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	objects map[string][]byte
	puts    int
	gets    int
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if f.before != nil && f.before(w, r) {
		return
	}
	status, answer := f.apply(r, body)
	if f.after != nil && f.after(w, r) {
		return
	}
	if status == http.StatusOK {
		w.Header().Set("ETag", tagOf(f.object(r)))
	}
	w.WriteHeader(status)
	w.Write(answer)
}

func (f *fakeS3) object(r *http.Request) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[r.URL.Path]
}

func (f *fakeS3) apply(r *http.Request, body []byte) (int, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, exists := f.objects[r.URL.Path]
	if r.Method == http.MethodGet {
		f.gets++
		if !exists {
			return 404, errorXML("NoSuchKey")
		}
		return 200, old
	}
	f.puts++
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case f.ignoreConditions:
	case none != "" && exists, match != "" && exists && match != tagOf(old):
		return 412, errorXML("PreconditionFailed")
	case match != "" && !exists:
		return 404, errorXML("NoSuchKey")
	}
	if f.objects == nil {
		f.objects = map[string][]byte{}
	}
	f.objects[r.URL.Path] = body
	return 200, nil
}

func tagOf(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func errorXML(code string) []byte {
	return fmt.Appendf(nil, "<Error><Code>%s</Code><Message>as asked</Message></Error>", code)
}

const testBucket = "elasticbeanstalk-eu-west-1-123456789012"

// storeAt is a claimant of an S3 endpoint.
func storeAt(t testing.TB, endpoint, owner string) *Store {
	t.Helper()
	s, err := New(Config{
		Bucket: testBucket, Region: "us-east-1", Environment: "e-abc", Owner: owner, Endpoint: endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("testaccess", "testsecret", ""),
		Client:      &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.config.Client.CloseIdleConnections)
	return s
}

// startVersity runs two processes of the real versitygw on one directory, and returns their URLs.
func startVersity(t *testing.T) []string {
	t.Helper()
	bin, dir := gotool.Build(t, gotool.VersityGW), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, testBucket), 0o755); err != nil {
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
		cmd := exec.Command(bin, "--port", addr, "-a", "testaccess", "-s", "testsecret", "--quiet", "--keep-alive", "posix", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		waitFor(t, func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		urls = append(urls, "http://"+addr)
	}
	return urls
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 30 s")
		}
	}
}

// faultProxy stands between claimants and a store and does to a share of requests what networks do: drops them, before
// or after they took effect, delays, duplicates and answers 500, before or after.
func faultProxy(t *testing.T, target string, share float64) string {
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
