package cli

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/cron"
)

// A url: job reaches the application as Beanstalk's worker daemon would: the
// headers of the Developer Guide, the right Host, 200 and nothing else is good.
func TestPostIsTheDaemons(t *testing.T) {
	var got *http.Request
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.WriteHeader(status)
		io.WriteString(w, "done\n")
	})
	tcp := httptest.NewServer(handler)
	defer tcp.Close()
	dir, err := os.MkdirTemp("", "p") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	unix.Start()
	defer unix.Close()

	// Go's own asks HTTP_PROXY where to go, which is the application's.
	http.DefaultTransport.(*http.Transport).Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("a proxy was asked for") }
	defer func() { http.DefaultTransport.(*http.Transport).Proxy = http.ProxyFromEnvironment }()
	for _, target := range []string{tcp.URL, "unix:" + socket} {
		t.Setenv(cron.PostTarget, target)
		t.Setenv(cron.PostPath, "/tasks/nightly?x=1")
		t.Setenv(cron.PostHost, "www.example.com")
		t.Setenv(cron.PostHeaders, "X-Forwarded-Proto: https\nX-Token: planted-5c1e")
		o := postOptions{task: "nightly", at: "2026-11-23T03:00:00Z"}
		o.fromEnv()
		status = http.StatusOK
		var out strings.Builder
		if err := o.post(t.Context(), &out); err != nil || out.String() != "done\n" {
			t.Fatalf("%s: %q, %v", target, out.String(), err)
		}
		if got.Method != "POST" || got.URL.RequestURI() != "/tasks/nightly?x=1" || got.Host != "www.example.com" {
			t.Errorf("%s %s to %s", got.Method, got.URL, got.Host)
		}
		for name, want := range map[string]string{"X-Aws-Sqsd-Taskname": "nightly", "X-Aws-Sqsd-Scheduled-At": "2026-11-23T03:00:00Z", "X-Forwarded-Proto": "https", "X-Token": "planted-5c1e"} {
			if h := got.Header.Get(name); h != want {
				t.Errorf("%s: %q, want %q", name, h, want)
			}
		}
		for _, status = range []int{301, 404, 500} {
			if err := o.post(t.Context(), io.Discard); err == nil {
				t.Errorf("status %d is taken for good", status)
			}
		}
	}
}

// What a job prints its notices and logs show.
func TestPostKeepsItsQuerySecret(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := "http://" + l.Addr().String()
	l.Close()
	for _, o := range []postOptions{{target: target, path: "/x?token=planted-5c1e"}, {target: target, path: "/x?token=planted-5c1e\x7f"}} {
		if err := o.post(t.Context(), io.Discard); err == nil || strings.Contains(err.Error(), "planted") {
			t.Errorf("%q: %v", o.path, err)
		}
	}
}
