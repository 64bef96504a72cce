package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/platform"
)

// A deployment changes the application's version while the agent runs on.
func TestStatusShowsTheVersionThatIsDeployedNow(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const manifest = "opt/elasticbeanstalk/deployment/app_version_manifest.json"
	write("etc/systemd/system/web.service", "[Service]\n")
	write(manifest, `{"VersionLabel":"v1"}`)
	a := &App{inst: platform.NewInstance(t.Context(), platform.Options{Root: root})}
	write(manifest, `{"VersionLabel":"v2"}`)
	if text := a.hostLines()[0].Text; !strings.Contains(text, "application version v2") {
		t.Error(text)
	}
}
