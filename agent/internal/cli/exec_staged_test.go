package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/agent/internal/api"
)

// In container_commands and predeploy hooks the present release is the old one, or none.
func TestExecNamesTheStagedRelease(t *testing.T) {
	dir := t.TempDir()
	if got := (&execOptions{}).staged(filepath.Join(dir, "gone")); got != "" {
		t.Errorf("without a staging tree: %s", got)
	}
	if got := (&execOptions{}).staged(dir); got != "" {
		t.Errorf("in an empty one: %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "manage.py"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		req  api.ExecRequest
		said bool
	}{
		"the application's":              {api.ExecRequest{}, true},
		"another user in its directory":  {api.ExecRequest{User: "root", AppEnv: true}, true},
		"in a directory of it":           {api.ExecRequest{Dir: "backend"}, true},
		"another user at home":           {api.ExecRequest{User: "root"}, false},
		"somebody who named a directory": {api.ExecRequest{Dir: dir}, false},
	} {
		got := (&execOptions{req: c.req}).staged(dir)
		if (got != "") != c.said || c.said && !strings.Contains(got, "--dir "+filepath.Join(dir, c.req.Dir)) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
