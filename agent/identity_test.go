package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/runs"
)

// Right after a boot the metadata service may answer later than the first runs start. What starts before and after has
// the same environment and is of the same instance, wherever that is read: in a list, alone, as a run's end, in a notice.
func TestRunsOfBeforeTheInstanceIsKnown(t *testing.T) {
	const id = "i-0123456789abcdef0"
	var answers atomic.Bool
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		switch {
		case !answers.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasSuffix(r.URL.Path, "/document"):
			io.WriteString(w, `{"instanceId":"`+id+`","region":"us-east-1","accountId":"123456789012"}`)
		}
	}))
	t.Cleanup(imds.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL)
	notices := make(chan map[string]any, 10)
	reader := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n map[string]any
		json.NewDecoder(r.Body).Decode(&n)
		notices <- n
	}))
	t.Cleanup(reader.Close)

	cfg, dir := ownPlace(t)
	cfg.Notify = []config.Notify{{Type: "webhook", Name: "reader", URL: reader.URL, On: []string{"failed"}}}
	cron := "cron:\n- {name: fails, schedule: '@every 1s', command: 'false'}\n"
	if err := os.WriteFile(filepath.Join(dir, "cron.yaml"), []byte(cron), 0o600); err != nil {
		t.Fatal(err)
	}
	startAgentIn(t, cfg, dir)
	cl := api.NewClient(cfg.Socket)
	await(t, "the agent answers", func() bool { return cl.Get(t.Context(), "/v1/status", nil) == nil })
	run := func() (r runs.Run, environment string) {
		t.Helper()
		req := api.ExecRequest{Args: []string{"env"}, Mode: api.Detached}
		if err := cl.Post(t.Context(), "/v1/runs", req, &r); err != nil {
			t.Fatal(err)
		}
		if err := cl.Get(t.Context(), api.Path("runs", r.ID, "wait"), &r); err != nil {
			t.Fatal(err)
		}
		out, err := cl.Stream(t.Context(), api.Path("runs", r.ID, "output"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		text, err := io.ReadAll(out)
		if err != nil || len(text) == 0 {
			t.Fatalf("%q, %v", text, err)
		}
		return r, string(text)
	}
	before, environment := run()
	var list []runs.Run
	await(t, "a job has failed", func() bool {
		return cl.Get(t.Context(), "/v1/runs?all=1&kind=cron", &list) == nil && len(list) > 0 && !list[len(list)-1].Live()
	})

	answers.Store(true)
	await(t, "the instance's id is known", func() bool {
		return cl.Get(t.Context(), api.Path("runs", before.ID), &before) == nil && before.Meta[runs.MetaHost] == id
	})
	after, again := run()
	if after.Meta[runs.MetaHost] != id || environment != again {
		t.Errorf("after: host %q; environment\n%swas\n%s", after.Meta[runs.MetaHost], again, environment)
	}
	for _, path := range []string{"/v1/runs?all=1", "/v1/runs?all=1&kind=cron"} {
		if err := cl.Get(t.Context(), path, &list); err != nil || len(list) < 2 {
			t.Fatalf("%s: %v, %v", path, list, err)
		}
		for _, r := range list {
			if r.Meta[runs.MetaHost] != id {
				t.Errorf("%s: %s of %s is of host %q", path, r.ID, r.Name, r.Meta[runs.MetaHost])
			}
		}
	}
	if err := cl.Get(t.Context(), api.Path("runs", before.ID, "wait"), &before); err != nil || before.Meta[runs.MetaHost] != id {
		t.Errorf("its end: host %q, %v", before.Meta[runs.MetaHost], err)
	}
	if n := <-notices; n["host"] != id || n["job"] != "fails" {
		t.Errorf("the notice of a failure before: %v", n)
	}
}
