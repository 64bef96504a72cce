package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/cron"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/packaging/testbed/planted"
	"beanstalk-agent/scheduler"
)

// A deployment ends with a reload, which looks at all that it may have changed.
func TestReloadAfterADeployment(t *testing.T) {
	cfg, log := config.Default(), planted.Log(t)
	cfg.App.Dir, cfg.StateDir, cfg.Health.Host = t.TempDir(), t.TempDir(), "shop.example"
	inst := platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: cfg.App.Dir})
	check, err := newHealth(cfg, app.New(appConfig(cfg), inst), nil, log)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []int
	deployed := 0
	b := &backend{deployed: func() { deployed++ }, check: check, cron: &cronParts{watcher: &cron.Watcher{Dir: cfg.App.Dir, Files: []string{"cron.yaml"}, Log: log,
		Options: func() scheduler.ParseOptions { return scheduler.ParseOptions{} }, Apply: func(t scheduler.Table) { jobs = append(jobs, len(t.Jobs)) }}}}
	if err := os.WriteFile(filepath.Join(cfg.App.Dir, "cron.yaml"), []byte("cron:\n- {name: a, schedule: '@daily', command: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	nginx, err := os.ReadFile(filepath.Join(cfg.StateDir, "nginx-health.conf"))
	if deployed != 1 || !slices.Equal(jobs, []int{1}) || !bytes.Contains(nginx, []byte("shop.example")) {
		t.Errorf("the web process is looked for %d times, jobs %v, nginx has %q, %v", deployed, jobs, nginx, err)
	}
}
