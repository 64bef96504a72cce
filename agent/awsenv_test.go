package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"beanstalk-agent/agent/internal/api"
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
		own    func(t *testing.T, h *awsHost) map[string]string // in the agent's own environment
		key    string                                           // whose signature arrives; "": nothing may arrive
		region string
		by     int32 // the least that come by the proxy
		trap   bool  // is met, which is the proof that there is one
	}{
		"in the application's": {nil, "AKIDROLE", "us-east-1", 0, false},
		"a key in the agent's own": {func(*testing.T, *awsHost) map[string]string {
			return map[string]string{"AWS_ACCESS_KEY_ID": "AKIDAPP", "AWS_SECRET_ACCESS_KEY": planted.Value, "AWS_REGION": "ap-south-1"}
		}, "AKIDAPP", "ap-south-1", 0, false},
		"an endpoint in the agent's own": {func(_ *testing.T, h *awsHost) map[string]string {
			return map[string]string{"AWS_ENDPOINT_URL_CLOUDWATCH": h.trap}
		}, "", "", 0, true},
		"a metadata service in the agent's own": {func(_ *testing.T, h *awsHost) map[string]string {
			return map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": h.trap}
		}, "", "", 0, true},
		"no metadata service in the agent's own": {func(*testing.T, *awsHost) map[string]string {
			return map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}
		}, "", "", 0, false},
		"a wrong proxy in the agent's own": {func(_ *testing.T, h *awsHost) map[string]string { return map[string]string{"HTTP_PROXY": h.trap} }, "", "", 0, true},
		"a proxy in the agent's own, and NO_PROXY in the application's": {func(_ *testing.T, h *awsHost) map[string]string {
			return map[string]string{"HTTP_PROXY": h.proxy}
		}, "AKIDROLE", "us-east-1", 1, false},
		"a proxy and NO_PROXY in the agent's own": {func(_ *testing.T, h *awsHost) map[string]string {
			return map[string]string{"HTTP_PROXY": h.proxy, "NO_PROXY": "*"}
		}, "AKIDROLE", "us-east-1", 0, false},
		// These the agent reads nowhere, as the README says.
		"a profile, and its files, in the agent's own": {func(t *testing.T, h *awsHost) map[string]string {
			return h.turning(t, "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
		}, "AKIDROLE", "us-east-1", 0, false},
		"a container's credentials in the agent's own": {func(t *testing.T, h *awsHost) map[string]string {
			return h.turning(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
		}, "AKIDROLE", "us-east-1", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && c.own != nil {
				t.Skip("takes seconds: that each would turn them if it reached the agent")
			}
			t.Parallel()
			h := newAWSHost(t)
			own := map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": gotool.Metadata(t, gotool.Role("AKIDROLE", planted.Value, planted.Value)), "AWS_ENDPOINT_URL_CLOUDWATCH": h.cloudwatch}
			if c.own != nil {
				maps.Copy(own, c.own(t, h))
			}
			h.run(t, own)
			if met := h.trapped.Load(); met > 0 != c.trap {
				t.Errorf("%d requests were trapped", met)
			}
			came := h.fake.Requests()
			if len(came) > 0 != (c.key != "") || h.proxied.Load() < c.by || c.by == 0 && h.proxied.Load() > 0 {
				t.Errorf("%d requests arrived, %d by the proxy", len(came), h.proxied.Load())
			}
			for _, r := range came {
				if r.Signer != c.key || r.SignedIn != c.region || r.Status != http.StatusOK {
					t.Errorf("signed by %s in %s and answered %d, want %s in %s", r.Signer, r.SignedIn, r.Status, c.key, c.region)
				}
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
	dir                     string
	cloudwatch, proxy, trap string // URLs
	fake                    *cloudwatchfake.Server
	proxied, trapped        atomic.Int32 // requests
}

func newAWSHost(t *testing.T) *awsHost {
	h := &awsHost{fake: &cloudwatchfake.Server{}}
	serve := func(handle http.HandlerFunc) string {
		s := httptest.NewServer(handle)
		t.Cleanup(s.Close)
		return s.URL
	}
	// No proxy is ever asked for a loopback address. 0.0.0.0 is this host, too, and none.
	h.cloudwatch = strings.Replace(serve(h.fake.ServeHTTP), "127.0.0.1", "0.0.0.0", 1)
	h.proxy = serve(func(w http.ResponseWriter, r *http.Request) { h.proxied.Add(1); h.fake.ServeHTTP(w, r) })
	h.trap = serve(func(w http.ResponseWriter, r *http.Request) { h.trapped.Add(1); w.WriteHeader(http.StatusTeapot) })

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
		"app/.env":    h.environment(),
		"config":      "[profile app]\nregion = ap-south-1\nendpoint_url = " + h.trap + "\n",
		"credentials": "[app]\naws_access_key_id = AKIDAPP\naws_secret_access_key = " + planted.Value + "\n",
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
		"AWS_REGION=ap-south-1\nAWS_DEFAULT_REGION=ap-south-1\nAWS_EC2_METADATA_DISABLED=true\nAWS_EC2_METADATA_V1_DISABLED=true\n" +
		"NO_PROXY=*\nno_proxy=*\nAWS_CA_BUNDLE=/nowhere/ca.pem\nSSL_CERT_FILE=/nowhere/ca.pem\n" +
		"AWS_PROFILE=app\nAWS_CONFIG_FILE=" + h.dir + "/config\nAWS_SHARED_CREDENTIALS_FILE=" + h.dir + "/credentials\n" +
		"AWS_CONTAINER_AUTHORIZATION_TOKEN=" + planted.Value + "\nAWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/role\n"
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_CLOUDWATCH", "AWS_ENDPOINT_URL_S3", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		text += name + "=" + h.trap + "\n"
	}
	return text
}

// turning are some of the application's variables, of which AWS's own client takes
// the application's key, or asks the trap for one.
func (h *awsHost) turning(t *testing.T, names ...string) map[string]string {
	t.Helper()
	vars := map[string]string{}
	cmd := exec.Command("/usr/bin/aws", "configure", "list")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "AWS_EC2_METADATA_DISABLED=true"}
	for line := range strings.Lines(h.environment()) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), "="); slices.Contains(names, name) {
			vars[name] = value
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if _, err := os.Stat(cmd.Path); err != nil {
		gotool.Need(t, "the package awscli")
	}
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "*DAPP ") && h.trapped.Swap(0) == 0 {
		t.Fatalf("aws is not turned: %v\n%s", err, out)
	}
	return vars
}

var decided = regexp.MustCompile(connected.String() + "|AWS_EC2_METADATA_DISABLED is set")

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
	client := api.NewClient(socket)
	await(t, "figures to send, and a decision where to", func() bool {
		var p struct{ Datums []any }
		var s api.Status
		return client.Get(t.Context(), "/v1/metrics", &p) == nil && len(p.Datums) > 0 &&
			(h.trapped.Load() > 0 || client.Get(t.Context(), "/v1/status", &s) == nil && decided.MatchString(fmt.Sprint(s)))
	})
	out, err := exec.Command("agent", "--socket", socket, "exec", "--", "env").Output()
	for line := range strings.Lines(h.environment()) {
		if !strings.Contains(string(out), line) {
			name, _, _ := strings.Cut(line, "=")
			t.Errorf("a command does not get %s as it is: %v", name, err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	hear(t, log.Name())
}
