package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/daemon"
	"beanstalk-agent/agent/internal/drain"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/gotool"
	"beanstalk-agent/packaging/testbed/planted"
)

// A termination notice, from AWS's own mock of the metadata, reaches the load balancer as 503 and the
// scheduler as a hold that no deployment's release undoes, and what runs goes on.
func TestTerminationNoticeDrainsAndHolds(t *testing.T) {
	for by, args := range map[string][]string{
		"spot":        {"spot", "-a", "terminate", "-d", "0"},
		"autoscaling": {"asglifecycle", "--asg-termination-delay-sec", "0"},
	} {
		t.Run(by, func(t *testing.T) { noticeDrainsAndHolds(t, by, args) })
	}
}

func noticeDrainsAndHolds(t *testing.T, by string, mock []string) {
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", gotool.Metadata(t, nil, mock...))
	t.Setenv("NOTIFY_SOCKET", "")
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Socket, cfg.StateDir, cfg.Health.Listen = filepath.Join(dir, "s"), filepath.Join(dir, "state"), fmt.Sprintf("127.0.0.1:%d", port)
	cfg.Metrics.Send = "off"
	startAgentIn(t, cfg, dir)

	client := api.NewClient(cfg.Socket)
	drained := func() (d drain.Departure) { client.Get(t.Context(), "/v1/drain", &d); return d }
	var run runs.Run
	await(t, "a command to start", func() bool {
		return client.Post(t.Context(), "/v1/runs", api.ExecRequest{Args: []string{"sleep", "61"}, Mode: api.Detached}, &run) == nil
	})
	await(t, "a drain by "+by, func() bool {
		return slices.ContainsFunc(drained().Drains, func(d drain.Reason) bool { return d.By == by })
	})
	resp, err := http.Get("http://" + cfg.Health.Listen + cfg.Health.Path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("a load balancer is answered %d", resp.StatusCode)
	}
	held := func() bool {
		var table api.CronTable
		client.Get(t.Context(), "/v1/cron", &table)
		return table.Held != nil && time.Until(*table.Held) > 12*time.Hour
	}
	await(t, "jobs are held", held)
	for route, refused := range map[string]bool{"/v1/hold?limit=1ms": false, "/v1/release": true} { // a deployment does both
		if err := client.Post(t.Context(), route, nil, nil); (err != nil) != refused || !held() {
			t.Errorf("%s lets jobs start: %v", route, err)
		}
	}
	if err := client.Post(t.Context(), "/v1/undrain", nil, nil); err == nil || drained().Drains[0].By != by {
		t.Errorf("an operator undrained it: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "s-held")); err != nil {
		t.Errorf("a restart of the agent would start jobs: %v", err)
	}
	if d := drained(); len(d.Runs) != 1 {
		t.Errorf("what runs is not let run: %+v", d)
	}
}

// startAgentIn runs the agent in this process until the test ends.
func startAgentIn(t *testing.T, cfg config.Config, app string) {
	t.Helper()
	log, err := os.Create(filepath.Join(app, "log"))
	if err == nil {
		err = os.WriteFile(filepath.Join(app, ".env"), []byte("PLANTED="+planted.Value+"\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, daemon.Options{Config: cfg, App: app, Stderr: log}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		hear(t, log.Name())
		log.Close()
	})
}
