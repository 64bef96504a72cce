package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/api"
	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/config"
	"beanstalk-agent/agent/internal/platform"
	"beanstalk-agent/collectors"
)

// A worker's environment has nginx, a health check and no port that anybody listens on: while its own process runs
// nothing is red, in the verdict, in status and in the metric, and nothing is asked for that a worker does not have.
func TestWorkerIsJudgedByItsProcess(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const env, procs = "opt/elasticbeanstalk/deployment/env", "sys/fs/cgroup/system.slice/web.service/cgroup.procs"
	write("var/app/current/app.py", "")
	write("etc/passwd", fmt.Sprintf("webapp:x:%d:%d::/home/webapp:/bin/sh\n", os.Geteuid(), os.Getegid()))
	write("etc/systemd/system/web.service", "[Service]\nUser=webapp\n")
	write("proc/7/stat", stat(7))
	write(env, "")
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	cfg.Health.Host = "${HEALTH_HOST}"
	inst := platform.NewInstance(t.Context(), platform.Options{Root: root, AppDir: filepath.Join(root, "var/app/current")})
	m := common{cfg: cfg, app: app.New(appConfig(cfg), inst), log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		process, pids string
		healthy       bool
		says          string
	}{
		{"PROCESS_TYPE=worker\n", "7\n", true, "process 7 of web.service runs"},
		{"PROCESS_TYPE=clock\n", "", false, "no process of web.service runs"},
		{"PROCESS_TYPE=clock\n", "7\n", true, "process 7 of web.service runs"},
		{"PROCESS_TYPE=web\n", "7\n", false, "the application does not listen there"},
		{"", "7\n", false, "the application does not listen there"},
	} {
		write(env, "PATH=/p\nPORT=9\n"+c.process) // port 9: nobody listens
		write(procs, c.pids)
		check, err := m.health(func(bool) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
		v := check.Check(context.Background())
		if v.Healthy != c.healthy || !strings.Contains(v.Reason, c.says) || v.Healthy != (v.Status == 200) {
			t.Errorf("%q, processes %q: %+v", c.process, c.pids, v)
		}
		red := 0
		for _, l := range check.Status(t.Context(), true) {
			if l.State != api.Good {
				red++
			}
		}
		if (red == 0) != c.healthy {
			t.Errorf("%q, processes %q: status is %+v", c.process, c.pids, check.Status(t.Context(), true))
		}
		samples := check.Samples([]collectors.Sample{})
		if worker := strings.Contains(c.says, "process"); worker && (len(samples) == 0 || (samples[0].Value == 0) != c.healthy) {
			t.Errorf("%q, processes %q: %+v", c.process, c.pids, samples)
		}
	}
}
