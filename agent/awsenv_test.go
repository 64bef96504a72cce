package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/control"
	"beanstalk-agent/packaging/testbed/cloudwatchfake"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// An application may have keys of its own, an endpoint for its tests, a proxy.
// None of it may turn the agent's metrics: they are signed as the instance's
// role and go where the agent's own environment says. The other cases show that
// each variable would turn them if it reached the agent, so that the trap and the
// signature are no empty proof.
func TestApplicationsAWSVariablesDoNotTurnTheAgent(t *testing.T) {
	for name, c := range map[string]struct {
		own    func(trap string) map[string]string // in the agent's own environment
		key    string                              // whose signature arrives; "": nothing may arrive
		region string
	}{
		"in the application's": {nil, "AKIDROLE", "us-east-1"},
		"a key in the agent's own": {func(string) map[string]string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "AKIDAPP", "AWS_SECRET_ACCESS_KEY": planted.Value, "AWS_REGION": "ap-south-1"}
		}, "AKIDAPP", "ap-south-1"},
		"an endpoint in the agent's own": {func(trap string) map[string]string { return map[string]string{"AWS_ENDPOINT_URL_CLOUDWATCH": trap} }, "", ""},
		"a proxy in the agent's own":     {func(trap string) map[string]string { return map[string]string{"HTTP_PROXY": trap} }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAWSHost(t)
			own := map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": gotool.Metadata(t, gotool.Role("AKIDROLE", "s", "t")), "AWS_ENDPOINT_URL_CLOUDWATCH": h.cloudwatch}
			if c.own != nil {
				maps.Copy(own, c.own(h.trap))
			}
			h.run(t, own)
			said, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			if strings.Contains(string(said), planted.Value) {
				t.Errorf("the agent says a value:\n%s", said)
			}
			signed, trapped := h.signed(), h.trapped()
			if c.key == "" {
				if len(signed) > 0 || trapped == 0 {
					t.Errorf("%d requests arrived and %d were trapped: the trap proves nothing", len(signed), trapped)
				}
				return
			}
			if trapped > 0 || len(h.fake.Points()) == 0 {
				t.Errorf("%d datums arrived, %d requests were trapped\n%s", len(h.fake.Points()), trapped, said)
			}
			for _, auth := range signed {
				if !strings.Contains(auth, "Credential="+c.key+"/") || !strings.Contains(auth, "/"+c.region+"/monitoring/") {
					t.Errorf("signed as %q, want %s in %s", auth, c.key, c.region)
				}
			}
			for _, r := range h.fake.Requests() {
				if strings.Contains(string(r.Body), planted.Value) {
					t.Error("a value is in what was sent")
				}
			}
		})
	}
}

// awsHost is an application with AWS variables of its own, CloudWatch, and a
// trap where those variables point.
type awsHost struct {
	dir              string
	cloudwatch, trap string // URLs
	fake             *cloudwatchfake.Server

	mu   sync.Mutex
	auth []string // of each request to CloudWatch
	hits int      // of the trap
}

func newAWSHost(t *testing.T) *awsHost {
	h := &awsHost{fake: &cloudwatchfake.Server{}}
	arrive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.auth = append(h.auth, r.Header.Get("Authorization"))
		h.mu.Unlock()
		h.fake.ServeHTTP(w, r)
	}))
	t.Cleanup(arrive.Close)
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.hits++
		h.mu.Unlock()
		w.WriteHeader(http.StatusTeapot)
	}))
	t.Cleanup(trap.Close)
	// No proxy is ever asked for a loopback address. 0.0.0.0 is this host, too, and none.
	h.cloudwatch, h.trap = strings.Replace(arrive.URL, "127.0.0.1", "0.0.0.0", 1), trap.URL

	var err error
	if h.dir, err = os.MkdirTemp("", "a"); err != nil { // short: a socket's path may have 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.dir) })
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(h.dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"app/.env": h.environment(),
		"agent.yaml": fmt.Sprintf("state_dir: %s/state\nhealth: {listen: '127.0.0.1:%d'}\nmetrics: {send: 'on', sample: 1s}\n",
			h.dir, port),
	} {
		if err := os.WriteFile(filepath.Join(h.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// environment is the application's: everything that AWS's clients and Go's own
// read, pointing to the trap.
func (h *awsHost) environment() string {
	text := "AWS_ACCESS_KEY_ID=AKIDAPP\nAWS_SECRET_ACCESS_KEY=" + planted.Value + "\nAWS_SESSION_TOKEN=" + planted.Value + "\n" +
		"AWS_REGION=ap-south-1\nAWS_DEFAULT_REGION=ap-south-1\nAWS_PROFILE=app\nAWS_EC2_METADATA_DISABLED=true\nNO_PROXY=\n" +
		"AWS_CA_BUNDLE=/nowhere/ca.pem\nSSL_CERT_FILE=/nowhere/ca.pem\nAWS_CONFIG_FILE=/nowhere/config\nAWS_SHARED_CREDENTIALS_FILE=/nowhere/credentials\n"
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL_S3", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
		"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		text += name + "=" + h.trap + "\n"
	}
	return text
}

// run has the agent measure once, and stops it, upon which it sends what it has.
// A command meanwhile gets the application's variables as they are.
func (h *awsHost) run(t *testing.T, own map[string]string) {
	socket := filepath.Join(h.dir, "s")
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	agent := exec.Command("agent", "run", "--app", filepath.Join(h.dir, "app"), "--socket", socket, "--config", filepath.Join(h.dir, "agent.yaml"))
	agent.Stdout, agent.Stderr = log, log
	agent.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	for k, v := range own {
		agent.Env = append(agent.Env, k+"="+v)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() error { stopped = true; agent.Process.Signal(syscall.SIGTERM); return agent.Wait() }
	defer func() {
		if !stopped {
			stop()
		}
	}()
	client := control.NewClient(socket)
	await(t, "figures to send", func() bool {
		var p struct{ Datums []any }
		return client.Get(t.Context(), "/v1/metrics", &p) == nil && len(p.Datums) > 0
	})
	out, err := exec.Command("agent", "--socket", socket, "exec", "--", "env").Output()
	for line := range strings.Lines(h.environment()) {
		if !strings.Contains(string(out), line) {
			t.Errorf("a command does not get %q: %v", line, err)
		}
	}
	if err := stop(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
}

func (h *awsHost) signed() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.auth
}

func (h *awsHost) trapped() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hits
}
