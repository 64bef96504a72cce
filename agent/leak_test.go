package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/daemon"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// After an orderly stop there is no goroutine, no process, no socket and no open
// file of ours, although a job and a command were running.
func TestStopLeavesNothing(t *testing.T) {
	dir, err := os.MkdirTemp("", "a") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	app := filepath.Join(dir, "app")
	if err := os.Mkdir(app, 0o755); err != nil {
		t.Fatal(err)
	}
	marker := fmt.Sprintf("61.%d", os.Getpid()) // finds our processes among everybody's
	cron := "version: 1\ncron:\n  - {name: long, schedule: '@every 1s', command: 'sleep " + marker + "'}\n"
	if err := errors.Join(os.WriteFile(filepath.Join(app, "cron.yaml"), []byte(cron), 0o644),
		os.WriteFile(filepath.Join(app, ".env"), []byte("PLANTED="+planted.Value+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("NOTIFY_SOCKET", "")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cfg := config.Default()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Socket, cfg.StateDir, cfg.Health.Listen = filepath.Join(dir, "s"), filepath.Join(dir, "state"), fmt.Sprintf("127.0.0.1:%d", port)
	cfg.Metrics.Sample = time.Second

	// The runtime's own goroutine for signals is there for good once one was asked for.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	signal.Stop(signals)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, daemon.Options{Config: cfg, App: app, Stderr: log}) }()

	client := api.NewClient(cfg.Socket)
	await(t, "a job runs", func() bool {
		var list []runs.Run
		return client.Get(t.Context(), "/v1/runs", &list) == nil && len(list) > 0
	})
	var run runs.Run
	if err := client.Post(t.Context(), "/v1/runs", api.ExecRequest{Args: []string{"sleep", marker}, Mode: api.Detached}, &run); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, text)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not stop")
	}

	await(t, "all processes end", func() bool {
		return len(processes(t, marker))+len(processes(t, cfg.Socket+"-supervisor.sock")) == 0
	})
	await(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	await(t, "all files are closed", func() bool { return openFiles(t) <= files })
	hear(t, log.Name())
	for _, name := range []string{"s", "s-supervisor.sock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is left behind", name)
		}
	}
}

// await polls a condition, with a limit that only a hang reaches.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("in vain: %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// processes are those whose command line contains word.
func processes(t *testing.T, word string) (found []string) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), word) {
			found = append(found, path)
		}
	}
	return found
}
