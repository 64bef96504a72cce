package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/app"
	"beanstalk-agent/agent/internal/platform"
)

// A difference in a worker whose environment a process title hides must not look like there is none.
func TestDiffNamesWhatItCouldNotRead(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"var/app/current/app.py": "", "etc/passwd": fmt.Sprintf("webapp:x:%d:%d::/home/webapp:/bin/sh\n", os.Geteuid(), os.Getegid()), "opt/elasticbeanstalk/deployment/env": "PATH=/p\nA=1\n",
		"etc/systemd/system/web.service":                      "[Service]\nUser=webapp\n",
		"sys/fs/cgroup/system.slice/web.service/cgroup.procs": "7\n8\n",
		"proc/7/stat": stat(7), "proc/8/stat": stat(8),
		"proc/7/environ": "PATH=/p\x00A=1\x00", "proc/8/environ": "puma: worker 1\x00\x00\x00",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &backend{app: app.New(app.Config{}, platform.NewInstance(t.Context(), platform.Options{Root: root, AppDir: filepath.Join(root, "var/app/current")}))}
	d, err := b.EnvironmentDiff(t.Context(), false)
	if err != nil || len(d.PIDs) != 1 || d.PIDs[0] != 7 || len(d.Unread) != 1 || !strings.Contains(d.Unread[0], "process 8: ") {
		t.Errorf("%+v, %v", d, err)
	}
}

// stat is /proc/PID/stat of a process that systemd started.
func stat(pid int) string { return fmt.Sprintf("%d (puma) S 1%s\n", pid, strings.Repeat(" 1", 48)) }
