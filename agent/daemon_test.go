package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/daemon"
)

// ownPlace is a configuration with a directory of its own for socket, state and application; nothing is sent.
func ownPlace(t *testing.T) (cfg config.Config, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("NOTIFY_SOCKET", "")
	cfg = config.Default()
	cfg.Socket, cfg.StateDir, cfg.Health.Listen = filepath.Join(dir, "s"), filepath.Join(dir, "state"), "127.0.0.1:0"
	cfg.Metrics.Send = "off"
	return cfg, dir
}

// The agent's watchdog asks of it all that people ask for, and of the application nothing: without a
// Host, whose refusal some frameworks mail to their administrators, least of all.
func TestWatchdogAsksNoApplication(t *testing.T) {
	cfg, dir := ownPlace(t)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "n"))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "30000000")
	var asked atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer app.Close()
	cfg.Health.Target = app.URL + "/health"
	startAgentIn(t, cfg, dir)
	systemd.SetReadDeadline(time.Now().Add(time.Minute))
	for buf := make([]byte, 1000); ; {
		n, err := systemd.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == "WATCHDOG=1" {
			break
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the application was asked %d times", n)
	}
}

// A deployment's end tells what nginx needs while the agent is down, without anybody who asks
// for health.
func TestReloadKeepsWhatNginxNeeds(t *testing.T) {
	cfg, dir := ownPlace(t)
	startAgentIn(t, cfg, dir)
	deployed := func(host, port string) {
		if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("HEALTH_HOST="+host+"\nPORT="+port+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept := func(host, port string) bool {
		text, _ := os.ReadFile(filepath.Join(cfg.StateDir, "nginx-health.conf"))
		return strings.Contains(string(text), `"`+host+`"`) && strings.Contains(string(text), `"127.0.0.1:`+port+`"`)
	}
	deployed("a.example", "1234")
	await(t, "the first Host", func() bool { return kept("a.example", "1234") })
	deployed("b.example", "4321")
	if err := api.NewClient(cfg.Socket).Post(t.Context(), "/v1/reload", nil, nil); err != nil || !kept("b.example", "4321") {
		t.Errorf("%v; the new Host and port are kept: %v", err, kept("b.example", "4321"))
	}
}

// Every part is made before any is started: a start that fails in the last one leaves no supervisor behind.
func TestFailedStartLeavesNothing(t *testing.T) {
	cfg, dir := ownPlace(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	cfg.Metrics.Dimensions = nil
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := daemon.Run(t.Context(), daemon.Options{Config: cfg, App: dir, Stderr: log}); err == nil {
		t.Error("it started without a dimension")
	}
	if left := processes(t, filepath.Join(dir, "s-supervisor.sock")); len(left) != 0 {
		t.Errorf("left behind: %s", left)
	}
}
