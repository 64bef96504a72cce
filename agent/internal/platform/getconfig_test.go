package platform

import (
	"testing"
)

// Beanstalk's own program is found at its place, whatever stands in PATH or in the current directory, and gets nothing
// of the agent's environment: it runs as root.
func TestGetConfigIsFoundByNothingElse(t *testing.T) {
	evil := tree(t, map[string]string{"get-config!": "#!/bin/sh\necho evil\n", "opt/elasticbeanstalk/bin/get-config!": "#!/bin/sh\necho evil\n",
		"sh!": "#!/bin/true\n"})
	t.Chdir(evil)
	for _, name := range []string{"PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "PYTHONPATH"} {
		t.Setenv(name, evil)
	}
	root := tree(t, map[string]string{"/opt/elasticbeanstalk/bin/get-config!": "#!/bin/sh\npwd; set | /bin/grep -E '^(LD_|BASH_ENV|ENV|PYTHON)'; exit 0\n"})
	if out, err := GetConfig(t.Context(), Options{Root: root}, "environment"); err != nil || string(out) != "/\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	if _, err := GetConfig(t.Context(), Options{Root: t.TempDir()}, "environment"); err != ErrNoGetConfig {
		t.Errorf("where there is none: %v", err)
	}
}
