package testbed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"beanstalk-agent/packaging/testbed/boxed"
)

func TestMain(m *testing.M) { os.Exit(boxed.Main(m)) }

// box is an environment, and what its tests remember.
type box struct {
	*boxed.Box
	status string // what agent status said last
	works  int    // how often work was started
}

func newBox(t *testing.T, name string) *box {
	t.Helper()
	b := &box{Box: boxed.New(t, name)}
	t.Parallel() // most of the time of a deployment is waiting
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last status:\n%s", b.status)
		}
	})
	return b
}

// wait polls until ok.
var wait = boxed.Wait

// write and edit change a file of an application before it is deployed.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, name, old, new string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q to replace", name, old)
	}
	write(t, dir, name, strings.Replace(string(text), old, new, 1))
}
