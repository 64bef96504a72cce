// Package gotool builds the servers that tests run against, at the versions the project pins.
//
// They are programs, not libraries, so they stay out of go.mod. Each is installed once into the user's cache
// directory, outside the tree, and found there by every later test run.
package gotool

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The programs. Each is the newest version that was tried with these tests.
const (
	MetadataMock = "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock@v1.13.0"
	VersityGW    = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
)

// OlderAgent is the commit of this repository whose agent stands for builds that are out there: the first that had
// both units as they are now. It is never moved forward: agents and supervisors of any two ages meet.
const OlderAgent = "aeb44f6b8a88462522cdcf1189c0e484f357319c"

// LandedAgent is the newest commit that had landed before packages, records' readers and the wire were cut anew: what
// it left on disk, on the wire and in a register must serve, and be served by, every later agent.
const LandedAgent = "c2a4529"

// Agent returns the path of the agent as it was built from a commit of this repository, which says that its version
// is version. A shallow clone does not have it.
func Agent(t testing.TB, commit, version string) string {
	t.Helper()
	path, err := cached(filepath.Join(commit, version, "agent"), func(tmp string) error {
		const script = `mkdir "$2/tree"
			git -C "$(git rev-parse --show-toplevel)" archive "$1" | tar -x -C "$2/tree"
			cd "$2/tree" && CGO_ENABLED=0 GOFLAGS= go build -buildvcs=false -trimpath -ldflags "-s -w -X main.Version=$3" -o ../agent ./agent`
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script, "build", commit, tmp, version)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		Need(t, fmt.Sprintf("the whole history, to build the agent of %.7s: %v", commit, err))
	}
	return path
}

// Build returns the path of the program that `go install pkg` makes, building it when the cache does not hold it.
// A test that cannot have it is skipped, or fails when CI is set: there it must never be missing.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	path, err := build(pkg)
	if err != nil {
		Need(t, fmt.Sprintf("%s: %v", pkg, err))
	}
	return path
}

// Metadata runs AWS's own mock of the instance metadata service, version 2 only, until the test ends, and returns its
// URL. config is laid over the mock's own. event is one of its commands with the command's flags, such as "spot", "-d",
// "0"; without one there is no event for a day: else it has all of them at once.
func Metadata(t testing.TB, config map[string]any, event ...string) string {
	t.Helper()
	bin, dir := Build(t, MetadataMock), t.TempDir()
	if config == nil {
		config = map[string]any{}
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "mock.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(event) == 0 {
		event = []string{"-d", "86400", "--asg-termination-delay-sec", "86400"}
	}
	args := append(slices.Clone(event), "-I", "-n", "127.0.0.1", "-c", file, "--rebalance-delay-sec", "86400")
	for range 5 {
		if url, ok := metadataMock(t, bin, dir, args); ok {
			return oneAtATime(t, url)
		}
	}
	t.Fatal("the metadata mock ended at once, on five ports")
	return ""
}

// oneAtATime stands before the mock, which ends with "concurrent map writes" when two ask for a token at once.
func oneAtATime(t testing.TB, mock string) string {
	to, err := url.Parse(mock)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// metadataMock reports whether the mock came up: it takes a port by its number, which somebody else may take first.
func metadataMock(t testing.TB, bin, dir string, args []string) (url string, ok bool) {
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(bin, append(args, "-p", port)...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	url = "http://" + addr
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get(url + "/latest/meta-data/instance-id")
		if err == nil {
			resp.Body.Close()
		}
		switch {
		case err == nil && resp.StatusCode == http.StatusUnauthorized: // it wants a token: it is the mock
			return url, true
		case time.Now().After(deadline):
			t.Fatalf("no metadata mock answers at %s: %v", url, err)
		}
		select {
		case <-ended:
			return "", false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Role is the part of a Metadata configuration that gives the instance's role these credentials for six hours. The
// mock's own ended in 2020.
func Role(key, secret, token string) map[string]any {
	return map[string]any{"metadata": map[string]any{"values": map[string]any{
		"iam-security-credentials": map[string]string{
			"Code": "Success", "LastUpdated": time.Now().UTC().Format(time.RFC3339), "Type": "AWS-HMAC",
			"AccessKeyId": key, "SecretAccessKey": secret, "Token": token,
			"Expiration": time.Now().Add(6 * time.Hour).UTC().Format(time.RFC3339),
		}}}}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// ModuleDir returns the folder that holds the source of a module the project depends on. Without Go on the machine
// there is none: the test is skipped, or fails when CI is set.
func ModuleDir(t testing.TB, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		Need(t, fmt.Sprintf("Go, to find %s: %v", module, err))
	}
	return strings.TrimSpace(string(out))
}

// Need ends a test that lacks what it needs: skipped on a developer's machine, failed in CI.
func Need(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

func build(pkg string) (string, error) {
	name, version, _ := strings.Cut(filepath.Base(pkg), "@")
	return cached(filepath.Join(version, name), func(tmp string) error {
		cmd := exec.Command("go", "install", pkg)
		cmd.Dir = tmp // outside the module: its go.mod must not decide the program's dependencies
		cmd.Env = append(os.Environ(), "GOBIN="+tmp, "GOFLAGS=", "CGO_ENABLED=0")
		cmd.WaitDelay = time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go install: %w: %s", err, out)
		}
		return nil
	})
}

// cached returns the path of a program in the user's cache, which make puts into a directory when it is not there.
func cached(name string, make func(tmp string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "beanstalk-agent-testbed", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Packages are tested side by side: each builds into a directory of its own, the last rename wins, all are equal.
	tmp, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := make(tmp); err != nil {
		return "", err
	}
	return path, os.Rename(filepath.Join(tmp, filepath.Base(name)), path)
}
