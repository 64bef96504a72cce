package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/launch"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/agent/internal/runs"
	"beanstalk-agent/packaging/testbed/planted"
)

// A deployment ends with a reload, which looks at all that it may have changed.
func TestReloadAfterADeployment(t *testing.T) {
	cfg, log := config.Default(), planted.Log(t)
	cfg.App.Dir, cfg.StateDir, cfg.Health.Host = t.TempDir(), t.TempDir(), "shop.example"
	cfg.Socket = filepath.Join(t.TempDir(), "agent.sock")
	aws, err := newAWS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := app.New(appConfig(cfg), platform.NewInstance(t.Context(), platform.Options{Root: t.TempDir(), AppDir: cfg.App.Dir}))
	m := common{cfg, a, aws, &runs.Client{}, &runs.Client{}, log}
	check, err := m.health(nil)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := m.cron((&launch.Launcher{}).Begin, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	deployed := 0
	b := &backend{callers: &callers{}, deployed: func() { deployed++ }, check: check, cron: jobs}
	if err := os.WriteFile(filepath.Join(cfg.App.Dir, "cron.yaml"), []byte("cron:\n- {name: a, schedule: '@daily', command: sh}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	nginx, err := os.ReadFile(filepath.Join(cfg.StateDir, "nginx-health.conf"))
	status := b.cron.Status(t.Context())[0].Text
	if deployed != 1 || !strings.HasPrefix(status, "1 job from") || !bytes.Contains(nginx, []byte("shop.example")) {
		t.Errorf("the web process is looked for %d times, %s, nginx has %q, %v", deployed, status, nginx, err)
	}
}
