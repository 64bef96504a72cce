package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/appenv"
	"beanstalk-agent/agent/internal/platform"
)

// A difference in a worker whose environment a process title hides must not look like there is none.
func TestDiffNamesWhatItCouldNotRead(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"var/app/current/app.py": "", "etc/passwd": fmt.Sprintf("webapp:x:%d:%d::/home/webapp:/bin/sh\n", os.Geteuid(), os.Getegid()), "opt/elasticbeanstalk/deployment/env": "PATH=/p\nA=1\n",
		"proc/7/environ": "PATH=/p\x00A=1\x00", "proc/8/environ": "puma: worker 1\x00\x00\x00",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &backend{inst: platform.NewInstance(t.Context(), platform.Options{Root: root}), env: appenv.New(appenv.Config{
		Beanstalk: true, Root: root, AppDir: filepath.Join(root, "var/app/current"), WebPIDs: func(context.Context) ([]int, error) { return []int{7, 8}, nil },
	})}
	d, err := b.EnvironmentDiff(t.Context(), false)
	if err != nil || len(d.PIDs) != 1 || d.PIDs[0] != 7 || len(d.Unread) != 1 || !strings.Contains(d.Unread[0], "process 8: ") {
		t.Errorf("%+v, %v", d, err)
	}
}
