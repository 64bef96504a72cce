package appenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A .env file may name fifty thousand variables of others. Who the user is, which is read from files that other callers
// wait for meanwhile, is asked once for all of them, whether there is such a user or not.
func TestUserIsAskedOnceForAFile(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	passwd := strings.Repeat("x:x:1:1::/:/bin/sh\n", 1000) + "webapp:x:7:7::/home/webapp:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"webapp", "nobody-here"} {
		r := New(Config{Root: root, User: user})
		lookup := r.outside(&reading{}, true)
		if _, ok := lookup("NO_SUCH_NAME"); ok {
			t.Error("found")
		}
		if n := testing.AllocsPerRun(10, func() { lookup("NO_SUCH_NAME") }); n > 1 {
			t.Errorf("user %s: %v allocations for each name more", user, n)
		}
	}
}
