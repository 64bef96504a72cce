package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func runCmd(t *testing.T, cmd *cobra.Command, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, words bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&words)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), words.String(), err
}

func TestInstallCommandThereAndBack(t *testing.T) {
	root := t.TempDir()
	out, _, err := runCmd(t, newInstallCmd(&globals{}), "--root", root)
	if err != nil || !strings.Contains(out, "write   /opt/agent/bin/agent\n") {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if out, words, err := runCmd(t, newInstallCmd(&globals{}), "--root", root); err != nil || out != "" || words != "nothing to do\n" {
		t.Errorf("again: %v\n%s%s", err, out, words)
	}
	if _, _, err := runCmd(t, newUninstallCmd(&globals{}), "--root", root); err != nil {
		t.Errorf("uninstall: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "/opt/agent")); err == nil {
		t.Error("uninstall left /opt/agent")
	}
}

func TestInstallCommandIntoARepository(t *testing.T) {
	dir := t.TempDir()
	out, _, err := runCmd(t, newInstallCmd(&globals{}), "--into", dir, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Steps []struct{ Action, Path string }
		Notes []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Steps) == 0 || len(report.Notes) == 0 {
		t.Errorf("--json printed %q: %v", out, err)
	}
	if _, _, err := runCmd(t, newInstallCmd(&globals{}), "--into", dir, "--root", dir); err == nil {
		t.Error("--into and --root together are accepted")
	}
}
