package platform

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// unnamed is an instance on which no file tells the environment's name, and whose get-config fails.
func unnamed(t *testing.T) string {
	return tree(t, map[string]string{
		"/opt/elasticbeanstalk/bin/get-config!":    "#!/bin/sh\necho could not parse environment variables >&2; exit 1\n",
		"/sys/devices/virtual/dmi/id/sys_vendor":   "Amazon EC2\n",
		"/etc/systemd/system/web.service":          "[Service]\n",
		"/opt/elasticbeanstalk/config/ebenvinfo/x": "",
	})
}

func identify(t *testing.T, o Options) (Facts, time.Duration) {
	t.Helper()
	f := Detect(t.Context(), o)
	start := time.Now()
	return f.Identify(t.Context(), o), time.Since(start)
}

// AWS's own mock, in its version 2 only mode.
func TestIdentityFromTheRealMetadataMock(t *testing.T) {
	for name, c := range map[string]struct{ tag, env string }{
		"tags enabled":     {"/latest/meta-data/tags/instance/elasticbeanstalk:environment-name", "shop-prod"},
		"tags not enabled": {"/latest/meta-data/tags/instance/Name", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := identify(t, Options{Root: unnamed(t), IMDSEndpoint: startMock(t, c.tag)})
			if f.InstanceID != "i-1234567890abcdef0" || f.AccountID != "0123456789" || f.Region != "us-east-1" || f.AvailabilityZone != "us-east-1f" || f.Partition != "aws" {
				t.Errorf("%+v", f)
			}
			if f.EnvironmentName != c.env {
				t.Errorf("environment name %q, want %q", f.EnvironmentName, c.env)
			}
			if missing := strings.Join(f.Missing, ", "); (c.env == "") != strings.Contains(missing, "environment name") || !strings.Contains(missing, "get-config") {
				t.Errorf("missing: %s", missing)
			}
		})
	}
}

func startMock(t *testing.T, tagPath string) string {
	return gotool.Metadata(t, map[string]any{"metadata": map[string]any{
		"paths":  map[string]string{"tags-instance-name": tagPath},
		"values": map[string]string{"tags-instance-name": "shop-prod"},
	}})
}

// The application's proxy settings, even in the agent's own environment, must not carry the metadata request away;
// version 1 is never spoken; whatever answers wrongly is said and held against a limit.
func TestMetadataServicesThatFail(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	var v1 atomic.Int64
	answer := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Aws-Ec2-Metadata-Token") == "" && r.Method != http.MethodPut {
				v1.Add(1)
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, c := range map[string]struct{ endpoint, want string }{
		"401":        {answer(401), "HTTP 401"},
		"403":        {answer(403), "HTTP 403"},
		"404":        {answer(404), "HTTP 404"},
		"500":        {answer(500), "HTTP 500"},
		"deaf":       {deaf(t), "no answer in time"},
		"black hole": {blackHole(t), "no answer in time"},
		"refused":    {"http://127.0.0.1:1", "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			f, took := identify(t, Options{Root: unnamed(t), IMDSEndpoint: c.endpoint})
			if missing := strings.Join(f.Missing, ", "); !strings.Contains(missing, "instance metadata: "+c.want) {
				t.Errorf("missing: %s", missing)
			}
			if took > imdsLimit+time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	if v1.Load() > 0 {
		t.Errorf("%d requests of version 1", v1.Load())
	}
}

// deaf accepts and never answers.
func deaf(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

// The firmware, not the network, says whether this is EC2: off EC2 nobody is asked, so nothing can hang.
func TestOffEC2NobodyIsAsked(t *testing.T) {
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/deployment/cfn-metadata-cache.json": metadataCache, "/sys/devices/virtual/dmi/id/sys_vendor": "QEMU"})
	f, took := identify(t, Options{Root: root})
	if f.EC2 || f.InstanceID != "" || took > 300*time.Millisecond {
		t.Errorf("%+v after %v", f, took)
	}
}

func TestFirmwareOfOtherInstanceTypes(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"xen":        {"/sys/hypervisor/uuid": "ec2e1916-9099-7caf-fd21-012345abcdef\n"},
		"bare metal": {"/sys/devices/virtual/dmi/id/sys_vendor": "Amazon EC2\n"},
		"old bios":   {"/sys/devices/virtual/dmi/id/bios_vendor": "Amazon EC2\n"},
	} {
		if f := Detect(t.Context(), Options{Root: tree(t, files)}); !f.EC2 {
			t.Errorf("%s: not taken for EC2", name)
		}
	}
}

// Where the metadata service comes late, whoever waits for it learns of it soon, however long it has been asked in vain.
func TestWhoWaitsIsToldSoon(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && asked.Add(1) <= 4:
			w.WriteHeader(http.StatusForbidden)
		case strings.HasSuffix(r.URL.Path, "/document"):
			io.WriteString(w, `{"instanceId":"i-1","region":"us-east-1"}`)
		}
	}))
	defer s.Close()
	i := NewInstance(t.Context(), Options{Root: t.TempDir(), IMDSEndpoint: s.URL})
	ended := make(chan struct{})
	go func() { defer close(ended); i.Run(t.Context(), planted.Log(t)) }()
	const limit = 20 * time.Second // without a waiter the fifth question comes after 30
	if !i.Await(t.Context(), limit, func(f Facts) bool { return f.InstanceID != "" }) {
		t.Errorf("not known after %s and %d questions", limit, asked.Load())
	}
	<-ended // it is complete
}
